package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/testkit/testfirestore"
	"docent/internal/testkit/testindex"
)

const chatPath = "/api/chatkit/chat"

// docs are the settings of a Docent that answers on its own.
func docs(t *testing.T, settings ...string) []string {
	t.Helper()
	return append([]string{
		"CHATKIT_WORKFLOW_ID=", "DOCS_INDEX=" + testindex.Write(t, testindex.Small()), "CHATKIT_DOMAIN_KEYS=docs.example.com=domain_pk_test", "RATE_LIMIT_PER_MINUTE=1000000",
	}, settings...)
}

// repeating starts a Docent whose model answers a question with its own words.
func repeating(t *testing.T, settings ...string) *docent {
	t.Helper()
	d := start(t, settings...)
	d.openai.Repeat()
	return d
}

// reader is a visitor with a session.
type reader struct {
	token  string
	thread string // The conversation, once there is one.
	client *http.Client
}

// newReader starts a visitor's first session.
func newReader(t *testing.T, d *docent) *reader {
	t.Helper()
	r := d.ask(t, http.MethodPost, sessionPath, func(r *http.Request) { r.URL.RawQuery = "api=any" })
	var session struct {
		Token string
		API   struct {
			URL       string
			DomainKey string `json:"domain_key"`
		}
	}
	if err := json.Unmarshal([]byte(r.body), &session); err != nil || session.API.URL != d.url+chatPath || !strings.HasPrefix(session.Token, "ds_") {
		t.Fatalf("session: %d %s", r.StatusCode, r.body)
	}
	return &reader{token: session.Token, client: client}
}

// open sends a request.
func (v *reader) open(ctx context.Context, t *testing.T, d *docent, body string, change ...func(*http.Request)) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+chatPath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", testOrigin)
	req.Header.Set("Authorization", "Bearer "+v.token)
	req.Header.Set("X-Forwarded-For", address(t))
	req.Header.Set("Docent-Widget", "1")
	for _, c := range change {
		c(req)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// send sends a request and returns the answer, read whole.
func (v *reader) send(t *testing.T, d *docent, body string, change ...func(*http.Request)) (status int, answer string) {
	t.Helper()
	resp := v.open(t.Context(), t, d, body, change...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// message returns the request that says something in the reader's conversation.
func (v *reader) message(text string) string {
	input := fmt.Sprintf(`{"content":[{"type":"input_text","text":%q}],"quoted_text":"","attachments":[],"inference_options":{}}`, text)
	if v.thread == "" {
		return `{"type":"threads.create","params":{"input":` + input + `}}`
	}
	return fmt.Sprintf(`{"type":"threads.add_user_message","params":{"thread_id":%q,"input":%s}}`, v.thread, input)
}

// event is what tests look at in an event.
type event struct {
	Type, Message string
	Thread        struct{ ID string }
	Item          struct {
		Type    string
		Content []struct{ Text string }
	}
}

// events reads the events of a stream.
func events(t *testing.T, stream string) (all []event) {
	t.Helper()
	for line := range strings.Lines(stream) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var e event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			all = append(all, e)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no events: %q", stream)
	}
	return all
}

// say carries a whole turn out and returns the answer's text.
func (v *reader) say(t *testing.T, d *docent, text string) string {
	t.Helper()
	_, stream := v.send(t, d, v.message(text))
	all := events(t, stream)
	if id := all[0].Thread.ID; id != "" {
		v.thread = id
	}
	last := all[len(all)-1]
	if last.Type != "thread.item.done" || len(last.Item.Content) != 1 {
		t.Fatalf("the answer to %q ends with %+v", text, last)
	}
	return last.Item.Content[0].Text
}

// texts returns the texts of the reader's conversation.
func (v *reader) texts(t *testing.T, d *docent) (texts []string) {
	t.Helper()
	_, body := v.send(t, d, fmt.Sprintf(`{"type":"items.list","params":{"thread_id":%q,"order":"asc","limit":100}}`, v.thread))
	var list struct {
		Data []struct{ Content []struct{ Text string } }
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for _, i := range list.Data {
		texts = append(texts, i.Content[0].Text)
	}
	return texts
}

func TestChat_TwoInstances(t *testing.T) {
	t.Parallel()
	settings := docs(t, "FIRESTORE_EMULATOR_HOST="+testfirestore.Address(t), "GOOGLE_CLOUD_PROJECT="+testfirestore.Project())
	instances := []*docent{repeating(t, settings...), repeating(t, settings...)}
	v := newReader(t, instances[0])
	var want []string
	for n := range 10 {
		text := fmt.Sprintf("visitors-words %d", n)
		if got := v.say(t, instances[n%2], text); got != text {
			t.Errorf("turn %d: %q", n, got)
		}
		want = append(want, text, text)
	}
	for n, d := range append(instances, start(t, settings...)) { // The last one starts afterwards.
		if diff := cmp.Diff(want, v.texts(t, d)); diff != "" {
			t.Errorf("instance %d (-want +got):\n%s", n, diff)
		}
		for _, secret := range []string{"visitors-words", v.thread, v.token} {
			if strings.Contains(d.output.String(), secret) {
				t.Errorf("instance %d has logged %q", n, secret)
			}
		}
	}
}

// h2c is a client that speaks HTTP/2 without TLS, as Cloud Run does.
func h2c(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// long is a question whose answer takes at least ten seconds.
var long = strings.TrimSpace(strings.Repeat("word ", 400))

// begin opens a stream and reads until the answer has begun.
func (v *reader) begin(ctx context.Context, t *testing.T, d *docent) *http.Response {
	t.Helper()
	resp := v.open(ctx, t, d, v.message(long))
	var read strings.Builder
	for buf := make([]byte, 512); !strings.Contains(read.String(), "text_delta"); {
		n, err := resp.Body.Read(buf)
		if err != nil {
			t.Fatalf("the stream ends with %v: %s", err, read.String())
		}
		read.Write(buf[:n])
	}
	_, rest, _ := strings.Cut(read.String(), `"thread":{"id":"`)
	v.thread, _, _ = strings.Cut(rest, `"`)
	return resp
}

func TestChat_VisitorLeaves(t *testing.T) {
	t.Parallel()
	d := repeating(t, docs(t)...)
	v := newReader(t, d)
	v.client = h2c(t)
	ctx, leave := context.WithCancel(t.Context())
	resp := v.begin(ctx, t, d)
	leave()
	left := time.Now()
	resp.Body.Close()
	r := d.records(t, 2)[1]
	if took := time.Since(left); r["outcome"] != "client_gone" || took > time.Second {
		t.Errorf("after %s: %v", took, r)
	}
	texts := v.texts(t, d)
	if len(texts) != 2 || texts[1] == "" || len(texts[1]) >= len(long) || !strings.HasPrefix(long, texts[1]) {
		t.Errorf("stored: %q", texts)
	}
}

func TestChat_SIGTERM(t *testing.T) {
	t.Parallel()
	settings := docs(t, "FIRESTORE_EMULATOR_HOST="+testfirestore.Address(t), "GOOGLE_CLOUD_PROJECT="+testfirestore.Project(),
		"RATE_LIMIT_MESSAGES_PER_MINUTE=unlimited", "ANSWERS_PER_DAY_PER_ADDRESS=unlimited")
	d := repeating(t, settings...)
	readers := make([]*reader, 50)
	streams := make([]*http.Response, len(readers))
	connection := h2c(t)
	for i := range readers {
		readers[i] = newReader(t, d)
		readers[i].client = connection
		streams[i] = readers[i].begin(t.Context(), t, d)
	}
	if err := d.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told := time.Now()
	for i, s := range streams {
		rest, err := io.ReadAll(s.Body)
		s.Body.Close()
		if err != nil || !strings.HasSuffix(string(rest), `{"type":"error","code":"custom","message":"The assistant is being restarted. Please try again.","allow_retry":true}`+"\n\n") {
			t.Fatalf("stream %d: %v, %s", i, err, rest[max(0, len(rest)-300):])
		}
	}
	if err := d.process.Wait(); err != nil || time.Since(told) > 9*time.Second {
		t.Errorf("%v after %s", err, time.Since(told))
	}
	next := start(t, settings...)
	for i, v := range readers {
		v.client = client
		if texts := v.texts(t, next); len(texts) != 2 || !strings.HasPrefix(long, texts[1]) {
			t.Errorf("conversation %d: %q", i, texts)
		}
	}
}

// TestChat_ManyStreams has as many streams at once as an instance takes, over as
// many connections, and checks that nothing of them is left.
func TestChat_ManyStreams(t *testing.T) {
	t.Parallel()
	d := repeating(t, docs(t, "RATE_LIMIT_MESSAGES_PER_MINUTE=unlimited", "ANSWERS_PER_DAY_PER_ADDRESS=unlimited")...)
	client.CloseIdleConnections()
	before := d.descriptors(t)
	var visitors sync.WaitGroup
	transport := &http.Transport{MaxConnsPerHost: 300, MaxIdleConnsPerHost: 300}
	for range 256 {
		v := newReader(t, d)
		v.client = &http.Client{Transport: transport}
		visitors.Go(func() {
			if got := v.say(t, d, "one two three four five"); got != "one two three four five" {
				t.Errorf("%q", got)
			}
		})
	}
	visitors.Wait()
	transport.CloseIdleConnections()
	d.settle(t, before)
}

// descriptors returns how many files and connections the process has open.
func (d *docent) descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(d.process.ID()), "fd"))
	if err != nil {
		t.Skip("no /proc on this machine")
	}
	return len(open)
}

// settle waits until no more descriptors are open than before. It ends the
// connections to OpenAI, which Docent keeps for the next answers.
func (d *docent) settle(t *testing.T, before int) {
	t.Helper()
	d.disconnect()
	client.CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); d.descriptors(t) > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are open, before it were %d", d.descriptors(t), before)
		}
	}
}

// A caller who relays through Google's services can add an address of Google's
// behind a forged one. The session route has to believe it, the chat route must not.
func TestChat_ForgedAddress(t *testing.T) {
	t.Parallel()
	d := repeating(t, docs(t, "TRUSTED_PROXIES=127.0.0.0/8,firebase-hosting", "RATE_LIMIT_MESSAGES_PER_MINUTE=1")...)
	v := newReader(t, d)
	for n, want := range []int{200, 429, 429} {
		status, body := v.send(t, d, v.message("hello"), header("X-Forwarded-For", fmt.Sprintf("192.0.2.%d, 66.102.0.1", n)))
		if status != want {
			t.Errorf("forged address %d: %d %s, want %d", n, status, body, want)
		}
	}
}

func TestChat_StoreDown(t *testing.T) {
	t.Parallel()
	emulator := testfirestore.Own(t)
	d := repeating(t, docs(t, "FIRESTORE_EMULATOR_HOST="+emulator.Address(), "GOOGLE_CLOUD_PROJECT="+testfirestore.Project(), "REQUEST_TIMEOUT=2s")...)
	v := newReader(t, d)
	v.say(t, d, "before")
	emulator.Stop()
	_, stream := v.send(t, d, v.message("meanwhile"))
	all := events(t, stream)
	if last, answer := all[len(all)-1], all[len(all)-2]; last.Type != "notice" || !strings.Contains(last.Message, "could not be saved") || answer.Item.Content[0].Text != "meanwhile" {
		t.Errorf("while the store is down, the answer ends with %+v", all[len(all)-2:])
	}
	if status, body := v.send(t, d, `{"type":"threads.list","params":{}}`); status != 503 || !strings.Contains(body, `"conversations_unavailable"`) {
		t.Errorf("while the store is down: %d %s", status, body)
	}
	if status, body := v.send(t, d, fmt.Sprintf(`{"type":"threads.retry_after_item","params":{"thread_id":%q,"item_id":"x"}}`, v.thread)); status != 200 ||
		events(t, body)[0].Message != "Conversations are not available right now. Please try again later." {
		t.Errorf("retry while the store is down: %d %s", status, body)
	}
	for _, r := range d.records(t, 5)[2:] {
		if text := fmt.Sprint(r["unsaved"], r["error"]); !strings.Contains(text, "start the emulator") {
			t.Errorf("the record does not say what to do: %v", r)
		}
	}
}
