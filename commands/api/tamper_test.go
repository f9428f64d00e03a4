package api_test

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/fairlead-hub/fairlead/internal/bus"
)

// What somebody with the bus in hand could do to the audit log.

func (h *hub) deleteAudit(seq uint64) {
	h.t.Helper()
	s, err := h.bus.Stream(h.t.Context(), bus.StreamAudit)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := s.DeleteMsg(h.t.Context(), seq); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) lastAudit() uint64 {
	h.t.Helper()
	s, err := h.bus.Stream(h.t.Context(), bus.StreamAudit)
	if err != nil {
		h.t.Fatal(err)
	}
	info, err := s.Info(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return info.State.LastSeq
}

func (h *hub) putAudit(data string) {
	h.t.Helper()
	if _, err := h.bus.JetStream().Publish(h.t.Context(), bus.AuditSubject(), []byte(data)); err != nil {
		h.t.Fatal(err)
	}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
