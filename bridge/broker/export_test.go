package broker

// SessionExpiry is for how many seconds a session waits for its client; false while that is there.
func SessionExpiry(b *Broker, id string) (uint32, bool) {
	s := b.hook.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	cl, ok := b.server.Clients.Get(id)
	if !ok || s.alone[id] == nil {
		return 0, false
	}
	return cl.Properties.Props.SessionExpiryInterval, true
}
