package devices_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-hub/fairlead/devices"
)

// TestAnswersThatNobodyReadsEnd ends the connection of a client that asks again and again and reads nothing, with TLS and
// without.
func TestAnswersThatNobodyReadsEnd(t *testing.T) {
	for _, useTLS := range []bool{false, true} {
		failed := make(chan error, 1)
		answer := make([]byte, 1<<20)
		addr := behind(t, devices.Stalling(50*time.Millisecond), func(w http.ResponseWriter, r *http.Request) {
			for range 64 { // more than any kernel holds for a client
				if _, err := w.Write(answer); err != nil {
					failed <- err
					return
				}
			}
		}, useTLS)
		conn := say(t, addr, "")
		if useTLS {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a loopback test peer
		}
		if _, err := io.WriteString(conn, strings.Repeat(get("/console/"), 8)); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-failed:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("TLS %v: %v", useTLS, err)
			}
		case <-time.After(patience):
			t.Fatalf("TLS %v: the answer still waits for its reader", useTLS)
		}
	}
}

// TestSlowReadersGetTheirAnswer is the control: an answer may take as long as it likes if its pieces are read, also when it
// begins long after the request. A deadline that somebody set holds for what it was set for.
func TestSlowReadersGetTheirAnswer(t *testing.T) {
	const pieces, piece = 8, 64 << 10
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		conn := devices.Through(server)
		var reader sync.WaitGroup
		reader.Go(func() {
			for range 2 * pieces {
				time.Sleep(devices.AnswerStall * 3 / 4)
				if _, err := io.ReadFull(client, make([]byte, piece)); err != nil {
					t.Error(err)
				}
			}
		})
		for range 2 {
			if n, err := conn.Write(make([]byte, pieces*piece)); n != pieces*piece || err != nil {
				t.Fatalf("%d bytes were read, then %v", n, err)
			}
		}
		reader.Wait()
		own := devices.AnswerStall / 10
		if err := conn.SetWriteDeadline(time.Now().Add(own)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []time.Duration{own, devices.AnswerStall} { // in the bubble's time, which is exact
			began := time.Now()
			if _, err := conn.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != want {
				t.Fatalf("after %s: %v, want the deadline after %s", time.Since(began), err, want)
			}
			if err := conn.SetWriteDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		client.Close()
		conn.Close()
	})
}
