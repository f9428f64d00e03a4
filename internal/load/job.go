package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// jobView is what an operator reads of a job.
type jobView struct {
	ID     string         `json:"id"`
	State  string         `json:"state"`
	Counts map[string]int `json:"counts"`
}

// jobPoll is how often the operator looks at the job.
const jobPoll = 50 * time.Millisecond

// commandAll makes one job of all devices and follows it to its end. Its rate is of its whole life.
func (o *orders) commandAll(ctx context.Context) error {
	client := &http.Client{Timeout: askTime}
	defer client.CloseIdleConnections()
	body, err := json.Marshal(map[string]any{
		"devices": o.spec.Devices, "confirm": len(o.spec.Devices), "concurrency": len(o.spec.Devices),
		"command": json.RawMessage(orderBody),
	})
	if err != nil {
		return fmt.Errorf("job: %w", err)
	}
	var job jobView
	if err := o.call(ctx, client, http.MethodPost, "/api/v1/jobs", body, &job); err != nil {
		return err
	}
	for job.State != "completed" {
		if !sleep(ctx, jobPoll) {
			return ctx.Err()
		}
		if err := o.call(ctx, client, http.MethodGet, "/api/v1/jobs/"+job.ID, nil, &job); err != nil {
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.result.Ended = job.Counts
	o.result.Succeeded = job.Counts["succeeded"]
	o.result.Made = len(o.spec.Devices)
	o.result.Done = o.result.Succeeded
	return nil
}

func (o *orders) call(ctx context.Context, client *http.Client, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, o.spec.API+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+o.spec.Operator)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("ask: %s: %s", resp.Status, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	return nil
}
