package main_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// streams returns a fault that streams the data of events.
func streams(data ...string) http.HandlerFunc {
	return answers(200, stream(data...), "Content-Type", "text/event-stream")
}

// stream returns the data of events as a stream.
func stream(data ...string) string { return "data: " + strings.Join(data, "\n\ndata: ") + "\n\n" }

// delta returns the data of an event with text, which is JSON without its quotes.
func delta(text string) string {
	return `{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"` + text + `"}`
}

const completed = `{"type":"response.completed","response":{"id":"resp_1","output":[]}}`

// endlessly streams a piece again and again until Docent leaves, or for the pause.
func endlessly(piece string, pause time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
			if pause == 0 {
				continue
			}
			http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// opened returns a fault that sends the beginning of a stream and then nothing more.
func opened(beginning string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, beginning)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// echo refuses a request with all of its words.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	answers(400, fmt.Sprintf(`{"error":{"message":%q,"type":"invalid_request_error"}}`, body))(w, r)
}

func TestUpstream_AnswerFaults(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed, with Authorization %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)

	const begun = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\n"
	thrice := func(h http.HandlerFunc) []http.HandlerFunc { return []http.HandlerFunc{h, h, h} }
	once := func(h http.HandlerFunc) []http.HandlerFunc { return []http.HandlerFunc{h} }
	rejected, busy, timeout, interrupted := shown{Error: sayRejected}, shown{Error: sayBusy}, shown{Error: sayTimeout}, shown{Text: "Run it.", Error: sayInterrupted}
	whole := wholeAnswer("", "")
	type test struct {
		name    string
		faults  []http.HandlerFunc
		outcome string
		shown   shown
		calls   int
	}
	tests := []test{
		{"400", once(answers(400, errorBody)), "upstream_rejected", rejected, 1},
		{"400 with the request's words", once(echo), "upstream_rejected", rejected, 1},
		{"401", once(answers(401, errorBody)), "upstream_rejected", rejected, 1},
		{"403", once(answers(403, errorBody)), "upstream_rejected", rejected, 1},
		{"404", once(answers(404, errorBody)), "assistant_unavailable", shown{Error: sayUnavailable}, 1},
		{"410", once(answers(410, errorBody)), "assistant_unavailable", shown{Error: sayUnavailable}, 1},
		{"408", thrice(answers(408, errorBody)), "upstream_busy", busy, 3},
		{"429", thrice(answers(429, errorBody)), "upstream_busy", busy, 3},
		{"429 once", once(answers(429, errorBody)), "answered", whole, 2},
		{"429 with a Retry-After that fits", once(answers(429, errorBody, "Retry-After", "1")), "answered", whole, 2},
		{"429 with a Retry-After that does not fit", once(answers(429, errorBody, "Retry-After", "20")), "upstream_busy", busy, 1},
		{"429 with a Retry-After of ages", once(answers(429, errorBody, "Retry-After", "99999999999999999999")), "upstream_busy", busy, 1},
		{"500", thrice(answers(500, errorBody)), "upstream_busy", busy, 3},
		{"500 twice", thrice(answers(500, errorBody))[:2], "answered", whole, 3},
		{"503", thrice(answers(503, "<html>"+upstreamText)), "upstream_busy", busy, 3},
		{"reset after the request", thrice(cut("")), "upstream_busy", busy, 3},
		{"half a header", thrice(cut("HTTP/1.1 200 OK\r\nConte")), "upstream_busy", busy, 3},
		{"truncated before text", thrice(cut(begun + "data: {\"type\":\"response.cr")), "upstream_busy", busy, 3},
		{"truncated in text", once(cut(begun + stream(delta("Run it.")) + "data: {\"type\":\"resp")), "upstream_busy", interrupted, 1},
		{"HTML", once(answers(200, "<!doctype html><title>"+upstreamText, "Content-Type", "text/html")), "upstream_rejected", rejected, 1},
		{"no stream", once(answers(200, `{"id":"resp_1","output":[{"type":"message","content":[{"type":"output_text","text":"`+upstreamText+`"}]}]}`, "Content-Type", "application/json")), "upstream_rejected", rejected, 1},
		{"no type", once(answers(200, stream(delta(upstreamText), completed), "Content-Type", "")), "upstream_rejected", rejected, 1},
		{"204", once(answers(204, "")), "upstream_rejected", rejected, 1},
		{"nothing", thrice(answers(200, "", "Content-Type", "text/event-stream")), "upstream_busy", busy, 3},
		{"garbage", thrice(streams("{" + upstreamText)), "upstream_busy", busy, 3},
		{"garbage in text", once(streams(delta("Run it."), "{"+upstreamText, completed)), "upstream_busy", interrupted, 1},
		{"no text", once(streams(completed)), "no_text", shown{Error: sayNoText}, 1},
		{"nothing but spaces", once(streams(delta(`\n \t`), completed)), "no_text", shown{Text: "\n \t", Error: sayNoText}, 1},
		{"an error of another form", thrice(streams(`{"error":"` + upstreamText + `"}`)), "upstream_busy", busy, 3},
		{"an error in text", once(streams(delta("Run it."), `{"type":"error","error":{"message":"`+upstreamText+`","code":"server_error"}}`)), "upstream_busy", interrupted, 1},
		{"an event of 4 MB", once(answers(200, "data: "+strings.Repeat("x", 4<<20), "Content-Type", "text/event-stream")), "upstream_rejected", rejected, 1},
		{"a stream without end", once(endlessly(": ping\n\n", 0)), "upstream_rejected", rejected, 1},
		{"an error without end", once(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			endless(w, r)
		}), "upstream_rejected", rejected, 1},
		{"4 MB unzipped", once(answers(200, zipped("data: "+strings.Repeat("x", 4<<20)), "Content-Encoding", "gzip", "Content-Type", "text/event-stream")), "upstream_rejected", rejected, 1},
		{"redirect", once(answers(307, "", "Location", elsewhere.URL)), "upstream_rejected", rejected, 1},
		{"no answer", once(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "upstream_timeout", timeout, 1},
		{"nothing after the header", once(opened("")), "upstream_timeout", timeout, 1},
		{"nothing after some text", once(opened(stream(delta("Run it.")))), "upstream_timeout", shown{Text: "Run it.", Error: sayTimeout}, 1},
		{"a drip of comments", once(endlessly(": ping\n\n", 50*time.Millisecond)), "upstream_timeout", timeout, 1},
	}
	var m models
	d := m.answering(t, "ANSWER_TIMEOUT=5s")
	before := d.descriptors(t)
	together(t, tests, func(tt test) string { return tt.name }, func(t *testing.T, tt test) {
		t.Helper()
		m.of(tt.name).RespondWith(tt.faults...)
		began := time.Now()
		got, record := newReader(t, d).watch(t, d, m.question(tt.name))
		if diff := cmp.Diff(tt.shown, got); diff != "" {
			t.Errorf("shown (-want +got):\n%s", diff)
		}
		if n := len(m.of(tt.name).Responses()); record["outcome"] != tt.outcome || n != tt.calls {
			t.Errorf("%d calls, the record is %v, want %d and %q", n, record, tt.calls, tt.outcome)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("the answer took %s", took)
		}
		failed := tt.outcome == "upstream_rejected" || tt.outcome == "upstream_busy" || tt.outcome == "assistant_unavailable"
		if failed && record["upstream"] == nil {
			t.Errorf("the record does not say what OpenAI answered: %v", record)
		}
	})
	d.settle(t, before)
}

// Some gateways cut a text within a character that JSON writes as two halves.
// Half a character is no text.
func TestUpstream_CharacterCut(t *testing.T) {
	t.Parallel()
	d := answering(t, docs(t)...)
	d.openai.RespondWith(streams(delta(`Look: \ud83d`), delta(`\uddfc!`), completed))
	got, _ := newReader(t, d).watch(t, d, installs)
	if diff := cmp.Diff(shown{Text: "Look: !"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUpstream_AnswerUnreachable(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			if tcp, ok := conn.(*net.TCPConn); ok {
				tcp.SetLinger(0) // Close sends a reset.
			}
			conn.Close()
		}
	}()
	plain, foreign := httptest.NewServer(answers(200, upstreamText)), httptest.NewUnstartedServer(answers(200, upstreamText))
	foreign.Config.ErrorLog = log.New(io.Discard, "", 0) // It has a line for each refused handshake.
	foreign.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(foreign.Close)
	for _, tt := range []struct{ name, base, outcome, want string }{
		{"refused", "http://" + nowhere, "upstream_busy", sayBusy},
		{"reset before the request", "http://" + l.Addr().String(), "upstream_busy", sayBusy},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), "upstream_busy", sayBusy},
		{"a foreign certificate", foreign.URL, "upstream_busy", sayBusy},
		{"TLS for a URL without", strings.Replace(foreign.URL, "https:", "http:", 1), "upstream_rejected", sayRejected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := answering(t, docs(t, "OPENAI_BASE_URL="+tt.base)...)
			got, record := newReader(t, d).watch(t, d, installs)
			if record["outcome"] != tt.outcome || got.Error != tt.want || record["upstream"] == nil {
				t.Errorf("%+v, the record is %v", got, record)
			}
		})
	}
}

func TestUpstream_AnswerQuotaUsedUp(t *testing.T) {
	t.Parallel()
	d := answering(t, docs(t)...)
	d.openai.RespondWith(answers(429, `{"error":{"message":"`+upstreamText+`","type":"insufficient_quota","code":"insufficient_quota"}}`, "Retry-After", "1"))
	got, record := newReader(t, d).watch(t, d, installs)
	if n := len(d.openai.Responses()); got.Error != sayUnavailable || record["outcome"] != "spending_refused" || record["severity"] != "ERROR" || n != 1 {
		t.Errorf("%d calls, %+v, the record is %v", n, got, record)
	}
}

func TestRotation_Answer(t *testing.T) {
	t.Parallel()
	m, env := manager(t)
	d := answering(t, append(env, docs(t)...)...)
	v := newReader(t, d)
	m.Add("test-project/openai-api-key", newKey)
	d.openai.SetKey(newKey)
	for range 2 {
		if got, record := v.watch(t, d, installs); record["outcome"] != "answered" {
			t.Errorf("%+v, the record is %v", got, record)
		}
	}
	if diff := cmp.Diff([]string{testKey, newKey, newKey}, d.openai.Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if strings.Contains(d.output.String(), newKey) {
		t.Errorf("the log has the new key:\n%s", d.output)
	}
}
