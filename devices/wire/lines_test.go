package wire_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

func TestDecodeLines(t *testing.T) {
	for name, c := range map[string]struct {
		in, want string
		prec     time.Duration
	}{
		"one":               {"env,room=b2 temp=21.5,door=t 1763832000123456789", "9 env,room=b2 temp:1=21.5 door:2=true @1763832000123456789", 0},
		"no time":           {"env temp=1", "9 env temp:1=1", 0},
		"integers":          {"env a=1i,b=-7i,c=18446744073709551615u", "9 env a:1=1 b:1=-7 c:1=18446744073709551615", 0},
		"floats":            {"env a=1e3,b=-2.5E-7,c=0.1", "9 env a:1=1000 b:1=-2.5e-07 c:1=0.1", 0},
		"strings":           {`env s="a \"b\" \\ é, = c"`, `9 env s:3=a "b" \ é, = c`, 0},
		"escapes":           {`env,room=b\ 2\,x\=y t=1`, "9 env,room=b 2,x=y t:1=1", 0},
		"comments and ends": {"# note\r\n\r\n  \nenv a=1 1\r\nenv b=F 2\n\n", "9 env a:1=1 @1 env b:2=false @2", 0},
		"milliseconds":      {"env a=1 1763832000123", "9 env a:1=1 @1763832000123000000", time.Millisecond},
		"seconds":           {"env a=1 1763832000", "9 env a:1=1 @1763832000000000000", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			d := wire.Decoder{Number: 9, Precision: c.prec}
			data := []byte(c.in)
			f, err := d.Decode(wire.Lines, data)
			if err != nil {
				t.Fatal(err)
			}
			if got := line(f.(*wire.Telemetry)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if string(data) != c.in {
				t.Errorf("the message was changed to %q", data)
			}
		})
	}
}

func TestDecodeLinesRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		code wire.Code
		path string
	}{
		"empty":         {"", wire.InvalidFrame, ""},
		"only comments": {"# a\n\n", wire.InvalidFrame, ""},
		"no fields":     {"env a=1\n# c\nenv\n", wire.InvalidFrame, "lines[2]"},
		"bare word":     {"env a=yes!", wire.InvalidFrame, "lines[0]"},
		"NaN":           {"env a=NaN", wire.InvalidFrame, "lines[0]"},
		"infinite":      {"env a=1e400", wire.InvalidFrame, "lines[0]"},
		"time":          {"env a=1 soon", wire.InvalidFrame, "lines[0]"},
		"time too far":  {"env a=1 99999999999999999999", wire.InvalidFrame, "lines[0]"},
		"two a line":    {"env a=1 1 env b=2 2", wire.InvalidFrame, "lines[0]"},
		"open string":   {"env a=\"x\nenv b=1", wire.InvalidFrame, "lines[0]"},
		"too many":      {"env a=1\nenv a=1\nenv a=1\nenv a=1", wire.TooManyPoints, "lines[3]"},
		"not UTF-8":     {"env a=\"\xff\"", wire.InvalidFrame, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := wire.Decoder{Number: 9, MaxPoints: 3}
			f, err := d.Decode(wire.Lines, []byte(c.in))
			var rej *wire.Reject
			if !errors.As(err, &rej) {
				t.Fatalf("got %v, %v; want a reject", f, err)
			}
			if rej.Code != c.code || rej.Path != c.path || rej.Seq != 9 || strings.Contains(rej.Message, "at line 1") {
				t.Errorf("got %s %q seq %d (%s)\nwant %s %q", rej.Code, rej.Path, rej.Seq, rej.Message, c.code, c.path)
			}
		})
	}
	d := wire.Decoder{Number: 9}
	f, err := d.Decode(wire.Lines, []byte("# c\nenv a=1,b=2\n\nenv c=3"))
	if err != nil {
		t.Fatal(err)
	}
	if rej := f.(*wire.Telemetry).NewReject(wire.TypeConflict, 1, "fields.c", "why"); rej.Path != "lines[3].fields.c" {
		t.Errorf("got %q", rej.Path)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("env,room=b\\ 2 temp=21.5,n=1i,u=2u,door=t,s=\"a \\\"b\\\"\" 1763832000123456789\n# c\nenv a=1"))
	f.Add([]byte("m f=1e3 -5\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		accepted(t, wire.Decoder{MaxPoints: 50}, wire.Lines, data)
	})
}
