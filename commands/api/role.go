package api

import "fmt"

// Role is what an operator may do; each role may what the ones before it may.
type Role string

// The roles.
const (
	Viewer Role = "viewer" // reads
	User   Role = "operator"
	Admin  Role = "admin" // also manages devices, operators, keys
)

var ranks = map[Role]int{Viewer: 1, User: 2, Admin: 3}

// may reports whether r includes need.
func (r Role) may(need Role) bool { return ranks[r] > 0 && ranks[r] >= ranks[need] }

func checkRole(r Role) error {
	if ranks[r] == 0 {
		return &Invalid{
			Code: "invalid_role", Path: "role",
			Detail: fmt.Sprintf("role %q is not one of viewer, operator, admin", r),
		}
	}
	return nil
}

// maxName is the longest operator name.
const maxName = 64

func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return &Invalid{Code: "invalid_name", Path: "name", Detail: fmt.Sprintf("an operator's name has 1 to %d characters", maxName)}
	}
	for i, c := range []byte(name) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '@' && c != '+' && c != '-') {
			return &Invalid{
				Code: "invalid_name", Path: "name",
				Detail: fmt.Sprintf("operator name %q: use A-Z a-z 0-9 . _ @ + -, starting with a letter or digit", name),
			}
		}
	}
	return nil
}
