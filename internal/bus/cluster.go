package bus

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fairlead-hub/fairlead/configs"
)

// clusterOptions makes the embedded server one of several: it then listens for routes, and only for those.
func clusterOptions(o *server.Options, c configs.Cluster) error {
	if c.Listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("nats.cluster.listen %q: %w", c.Listen, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("nats.cluster.listen %q: port: %w", c.Listen, err)
	}
	// A server that does not listen starts no routes either; the client port stays on loopback and random.
	o.DontListen, o.Host, o.Port = false, "127.0.0.1", server.RANDOM_PORT
	o.Cluster = server.ClusterOpts{Name: c.Name, Host: host, Port: n}
	for _, r := range c.Routes {
		u, err := url.Parse(r)
		if err != nil {
			return fmt.Errorf("nats.cluster.routes %q: %w", r, err)
		}
		o.Routes = append(o.Routes, u)
	}
	return nil
}

func joinURLs(urls []string) string { return strings.Join(urls, ",") }
