//go:build unix

package conformance_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// conversation is what one visitor sends to both servers, one request after the
// other.
type conversation []request

// request is what a visitor sends.
type request struct {
	// name tells the requests of a conversation apart.
	name string
	// body is JSON in which <thread 1> and <item 2> stand for IDs, in the order in
	// which they first appeared in the answers.
	body string
	// widget says that the request comes from Docent's widget.
	widget bool
	// leave has the visitor leave after an event with this text, if it is not "".
	leave string
	// until has the request sent again until the answer has this text.
	until string
	// refused is how Docent refuses the request, where it does and the reference does
	// not, or not so.
	refused *refusal
	// like names an earlier request that Docent answers in the same way, where the
	// reference does not.
	like string
	// keeps names an earlier request whose answer Docent has kept, whole or cut short,
	// where the reference has not.
	keeps string
	// shows names an earlier request whose answer Docent has kept as it has sent it,
	// where the reference has sent and kept another one.
	shows string
	// said is what OpenAI says, delta by delta, before the answer fails. The reference
	// may lose the end of it, or all.
	said []string
	// ends is the event that Docent sends last, where the reference sends an error of
	// its own.
	ends string
	// joined has neighbouring deltas compared as one. The stand-in for OpenAI cuts the
	// text anywhere.
	joined bool
}

// refusal is an error of Docent's.
type refusal struct {
	status        int
	code, message string
	retry         bool
}

func badRequest(problem string) *refusal {
	return &refusal{400, "bad_request", "The request is not valid: " + problem + ".", false}
}

var (
	unknownThread = &refusal{404, "thread_not_found", "This conversation does not exist. It may have expired or been deleted.", false}
	unknownItem   = &refusal{404, "item_not_found", "This message does not exist any more.", false}
	notSupported  = &refusal{400, "not_supported", "The assistant does not support this.", false}
	tooLarge      = &refusal{413, "request_too_large", "The message is too long.", false}
	threadClosed  = &refusal{409, "thread_closed", "This conversation is full. Please start a new one.", false}
	notJSON       = &refusal{400, "bad_request", "The request is not JSON.", false}
)

// streams reports whether the request's type is one whose answer is a stream.
func (q request) streams() bool {
	var r struct{ Type string }
	_ = json.Unmarshal([]byte(q.body), &r) // What is not JSON has no type.
	return slices.Contains([]string{
		"threads.create", "threads.add_user_message", "threads.retry_after_item",
		"threads.add_client_tool_output", "threads.add_structured_input", "threads.custom_action",
	}, r.Type)
}

func quote(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(quoted)
}

// input is a message as ChatKit sends it.
func input(text string) string {
	return `{"content":[{"type":"input_text","text":` + quote(text) + `}],"quoted_text":"","attachments":[],"inference_options":{}}`
}

func create(text string) string {
	return `{"type":"threads.create","params":{"input":` + input(text) + `}}`
}

func add(text string) string { return addRaw(input(text)) }

func addRaw(input string) string {
	return `{"type":"threads.add_user_message","params":{"thread_id":"<thread 1>","input":` + input + `}}`
}

func retry(item string) string {
	return `{"type":"threads.retry_after_item","params":{"thread_id":"<thread 1>","item_id":"` + item + `"}}`
}

const (
	get       = `{"type":"threads.get_by_id","params":{"thread_id":"<thread 1>"}}`
	listAll   = `{"type":"threads.list","params":{"limit":9999,"order":"desc"}}`
	itemsAsc  = `{"type":"items.list","params":{"thread_id":"<thread 1>","limit":9999,"order":"asc"}}`
	lastItem  = `{"type":"items.list","params":{"thread_id":"<thread 1>","limit":1}}`
	withQuote = `{"type":"threads.add_user_message","params":{"thread_id":"<thread 1>","input":{"content":[` +
		`{"type":"input_tag","id":"t1","text":"@pages ","data":{"z":1.5,"a":[true,null],"text":"é"},"group":"g","interactive":true},` +
		`{"type":"input_tag","id":"t2","text":"@you ","data":{}},` +
		`{"type":"input_text","text":"and more"}],` +
		`"quoted_text":"an <answer>","attachments":[],"inference_options":{"model":"m","tool_choice":{"id":"search"}}}}}`
)

// script is a question that is answered as scripts say: one for each time, in JSON.
func script(scripts ...string) string { return "script: [" + strings.Join(scripts, ",") + "]" }

// conversations are what both servers are asked. In each, the IDs of a thread and
// its items are the first that the visitor gets.
var conversations = map[string]conversation{
	"a conversation": {
		{name: "threads of a new visitor", body: listAll},
		{name: "first message", body: create("How do I deploy this,\nplease, and what does it cost in a month, and who pays?")},
		{name: "threads", body: listAll},
		{name: "thread", body: get},
		{name: "message with tags and a quote", body: withQuote},
		{name: "thread with four items", body: get},
		{name: "newest item", body: lastItem},
		{name: "items after the newest", body: `{"type":"items.list","params":{"thread_id":"<thread 1>","limit":2,"order":"desc","after":"<item 4>"}}`},
		{name: "items after the second", body: `{"type":"items.list","params":{"thread_id":"<thread 1>","order":"asc","after":"<item 2>"}}`},
		{name: "items after the last", body: `{"type":"items.list","params":{"thread_id":"<thread 1>","order":"asc","after":"<item 4>"}}`},
		{name: "items after an unknown one", body: `{"type":"items.list","params":{"thread_id":"<thread 1>","after":"msg_00000000"}}`},
		{name: "items without a limit", body: `{"type":"items.list","params":{"thread_id":"<thread 1>","limit":null,"after":null}}`},
		{name: "retry of the last message", body: retry("<item 3>")},
		{name: "thread with another answer", body: get},
		{name: "retry of the first message", body: retry("<item 1>")},
		{name: "thread with two items", body: get},
		{name: "new title", body: `{"type":"threads.update","params":{"thread_id":"<thread 1>","title":"A <new> \"title\""}}`},
		{name: "new title with spaces around it", body: `{"type":"threads.update","params":{"thread_id":"<thread 1>","title":" Another title\n"}}`},
		{name: "good answer", body: `{"type":"items.feedback","params":{"thread_id":"<thread 1>","item_ids":["<item 1>","<item 6>"],"kind":"positive"}}`},
		{name: "bad answer", body: `{"type":"items.feedback","params":{"thread_id":"<thread 1>","item_ids":["<item 1>"],"kind":"negative"}}`},
		{name: "deletion", body: `{"type":"threads.delete","params":{"thread_id":"<thread 1>"}}`},
		{name: "deleted thread", body: get, refused: unknownThread},
		{name: "message to the deleted thread", body: add("Hello?"), refused: unknownThread},
		{name: "threads after the deletion", body: listAll},
	},
	"metadata": {
		{name: "message", body: `{"type":"threads.create","metadata":{"a":1},"params":{"new":1,"input":{"content":[{"type":"input_text","text":"Hi","new":1}],"attachments":[],"inference_options":{"model":null}}},"new":1}`},
		{name: "thread", body: get},
	},
	"characters": {
		{name: "message", body: create("<b>\"Ünï\" & 'quotes'</b> \\ / \t\n 👩‍👩‍👧 \x00\x01\x08\x0c\x0e\x7f\u0085\u00a0\ufeff\ufffd\U0010ffff")},
		{name: "line separators", body: add("a\u2028b \u2029c")},
		{name: "thread", body: get},
	},
	"titles": {
		{name: "one long word", body: create(strings.Repeat("x", 70))},
		{name: "just short enough", body: create(strings.Repeat("é", 30) + " " + strings.Repeat("é", 29) + "\u00a0")},
		{name: "cut at the limit", body: create(strings.Repeat("é", 30) + " " + strings.Repeat("é", 29) + " x")},
		{name: "cut before the limit", body: create(strings.Repeat("é", 30) + "  " + strings.Repeat("é", 30) + " x")},
		{name: "threads", body: listAll},
	},
	"sources": {
		{name: "message", body: create(script(`[{"cite":{"title":"Start","url":"https://docs.example.com/"}},{"write":"😀 Yes"},` +
			`{"cite":{"title":"Deploy › \"Costs\"","url":"https://docs.example.com/deploy?a=1&b=2#costs"}},{"cite":{"title":"Two","url":"/two"}},` +
			`{"write":", it is."},{"cite":{"title":"Three","url":"https://docs.example.com/three"}}]`))},
		{name: "thread", body: get},
	},
	"progress and notices": {
		{name: "message", body: create(script(`[{"progress":{"icon":"search","text":"Searching"}},{"progress":{"icon":"document","text":"Reading <pages>"}},` +
			`{"write":"Yes."},{"notice":{"level":"warning","title":"Cut","message":"It is *long*."}},{"notice":{"level":"info","message":"No title"}}]`))},
		{name: "thread", body: get},
	},
	"an error before the text": {
		{name: "message", body: create(script(`[{"fail":{"message":"The index is <not> there.","retry":false}}]`, `[{"write":"Yes."}]`))},
		{name: "thread", body: get},
		{name: "retry", body: retry("<item 1>")},
		{name: "thread after the retry", body: get},
	},
	"an error after the text": {
		{name: "message", body: create(script(`[{"write":"It "},{"write":"works"},{"fail":{"message":"Try again.","retry":true}}]`, `[{"write":"Yes."}]`))},
		{name: "thread", body: get, keeps: "message"},
		{name: "retry", body: retry("<item 1>")},
		{name: "thread after the retry", body: get},
	},
	"a crash before the text": {
		{name: "message", body: create(script(`[{"crash":"a secret"}]`))},
		{name: "thread", body: get},
	},
	"a crash after the text": {
		{name: "message", body: create(script(`[{"write":"It"},{"crash":"a secret"}]`))},
		{name: "thread", body: get, keeps: "message"},
	},
	"an answer without text": {
		{name: "message", body: create(script(`[{"progress":{"icon":"search","text":"Searching"}}]`, `[{"write":"Yes."}]`))},
		{name: "thread", body: get},
		{name: "retry", body: retry("<item 1>")},
	},
	"a retry that fails": {
		{name: "message", body: create(script(`[{"write":"Yes."}]`, `[{"fail":{"message":"Busy.","retry":true}}]`, `[{"write":"No"},{"crash":"a secret"}]`))},
		{name: "retry without text", body: retry("<item 1>")},
		{name: "thread with the old answer", body: get, keeps: "message"},
		{name: "retry with text", body: retry("<item 1>")},
		{name: "thread with the new answer", body: get, keeps: "retry with text"},
	},
	"a retry after an unknown item": {
		{name: "message", body: create("Hello?")},
		{name: "retry", body: retry("<item 1>")},
		{name: "retry after an unknown item", body: retry("msg_00000000"), like: "retry"},
	},
	"a retry after an answer": {
		{name: "message", body: create("Hello?")},
		{name: "retry", body: retry("<item 1>")},
		{name: "retry after the answer", body: retry("<item 3>"), like: "retry"},
	},
	"what is missing": {
		{name: "message", body: create("Hello?")},
		{name: "message without a quote", body: addRaw(`{"content":[{"type":"input_text","text":"Hi"}],"attachments":[],"inference_options":{}}`)},
		{name: "message with nothing else", body: addRaw(`{"content":[{"type":"input_text","text":"Hi"}]}`), like: "message without a quote"},
	},
	"half a character": {
		{name: "message", body: create("Hello?")},
		{name: "replacement character", body: add("Hi \ufffd")},
		{name: "half of a pair", body: strings.Replace(add("Hi X"), "X", `\ud83d`, 1), like: "replacement character"},
	},
	"a visitor who leaves": {
		{name: "message", body: create(script(`[{"write":"It "},{"write":"works"},{"hang":true}]`)), leave: `"works"`},
		{name: "thread", body: get, until: "It works"},
		{name: "items", body: itemsAsc},
		{name: "newest item", body: lastItem},
		{name: "next message", body: add("Really?")},
		{name: "thread with four items", body: get},
		{name: "retry of the first message", body: retry("<item 1>"), leave: `"works"`},
	},
	"a visitor who leaves before the answer": {
		{name: "message", body: create(script(`[{"progress":{"icon":"search","text":"Searching"}},{"progress":{"text":"Reading"}},{"hang":true}]`)), leave: `"text":"Reading"`},
		{name: "next message", body: add("Really?")},
		{name: "thread", body: get},
	},
	"many items": slices.Concat(
		conversation{{name: "first message", body: create("1")}},
		turns(2, 11),
		conversation{
			{name: "thread", body: get},
			{name: "items after the first page", body: `{"type":"items.list","params":{"thread_id":"<thread 1>","limit":9999,"order":"asc","after":"<item 20>"}}`},
			{name: "newest items", body: `{"type":"items.list","params":{"thread_id":"<thread 1>"}}`},
			{name: "older items", body: `{"type":"items.list","params":{"thread_id":"<thread 1>","order":"desc","after":"<item 3>"}}`},
			{name: "exactly all items", body: `{"type":"items.list","params":{"thread_id":"<thread 1>","limit":22}}`},
			{name: "retry of an old message", body: retry("<item 1>")},
			{name: "thread after the retry", body: get},
		},
	),
	"many threads": slices.Concat(
		threads(22),
		conversation{
			{name: "newest threads", body: `{"type":"threads.list","params":{}}`},
			{name: "older threads", body: `{"type":"threads.list","params":{"after":"<thread 3>"}}`},
			{name: "oldest threads", body: `{"type":"threads.list","params":{"order":"asc","limit":3}}`},
			{name: "threads after the oldest", body: `{"type":"threads.list","params":{"order":"asc","limit":3,"after":"<thread 3>"}}`},
			{name: "threads after the newest", body: `{"type":"threads.list","params":{"order":"asc","after":"<thread 22>"}}`},
			{name: "threads after an unknown one", body: `{"type":"threads.list","params":{"after":"thr_00000000"}}`},
			{name: "message to an old thread", body: add("Hello?")},
			{name: "title of an old thread", body: `{"type":"threads.update","params":{"thread_id":"<thread 2>","title":"Two"}}`},
			{name: "threads after a message", body: `{"type":"threads.list","params":{"limit":3}}`},
		},
	),
	"a full thread": slices.Concat(
		conversation{{name: "first message", body: create("1")}},
		turns(2, 99),
		conversation{
			{name: "last message", body: add(script(`[{"write":"Yes."},{"close":` + quote(threadClosed.message) + `}]`))},
			{name: "thread", body: get},
			{name: "all items", body: itemsAsc},
			{name: "threads", body: listAll},
			{name: "retry of the last message", body: retry("<item 199>")},
			{name: "one more message", body: add("Hello?"), refused: threadClosed},
		},
	),
	"a thread that is unknown": {
		{name: "thread", body: unknown("threads.get_by_id", ""), refused: unknownThread},
		{name: "items", body: unknown("items.list", ""), refused: unknownThread},
		{name: "title", body: unknown("threads.update", `"title":"New"`), refused: unknownThread},
		{name: "feedback", body: unknown("items.feedback", `"item_ids":["msg_00000000"],"kind":"positive"`), refused: unknownThread},
		{name: "deletion", body: unknown("threads.delete", ""), refused: unknownThread},
		{name: "message", body: unknown("threads.add_user_message", `"input":`+input("Hello?")), refused: unknownThread},
		{name: "message of the widget", body: unknown("threads.add_user_message", `"input":`+input("Hello?")), widget: true, refused: unknownThread},
		{name: "retry", body: unknown("threads.retry_after_item", `"item_id":"msg_00000000"`), refused: unknownThread},
	},
	"an item that is unknown": {
		{name: "message", body: create("Hello?")},
		{name: "feedback", body: `{"type":"items.feedback","params":{"thread_id":"<thread 1>","item_ids":["msg_00000000"],"kind":"positive"}}`, refused: unknownItem},
	},
	"what is not supported": {
		{name: "output of a tool", body: unknown("threads.add_client_tool_output", `"result":{}`), refused: notSupported},
		{name: "structured input", body: unknown("threads.add_structured_input", `"item_id":"msg_00000000","input":{}`), refused: notSupported},
		{name: "action", body: unknown("threads.custom_action", `"action":{"type":"a"}`), refused: notSupported},
		{name: "action of the widget", body: unknown("threads.custom_action", `"action":{"type":"a"}`), widget: true, refused: notSupported},
		{name: "action that is answered with JSON", body: unknown("threads.sync_custom_action", `"action":{"type":"a"}`), refused: notSupported},
		{name: "new attachment", body: `{"type":"attachments.create","params":{"name":"a.png","size":1,"mime_type":"image/png"}}`, refused: notSupported},
		{name: "deleted attachment", body: `{"type":"attachments.delete","params":{"attachment_id":"atc_00000000"}}`, refused: notSupported},
		{name: "dictation", body: `{"type":"input.transcribe","params":{"audio_base64":"AAAA","mime_type":"audio/webm"}}`, refused: notSupported},
		{name: "message with an attachment", body: `{"type":"threads.create","params":{"input":{"content":[{"type":"input_text","text":"Hi"}],"attachments":["atc_00000000"],"inference_options":{}}}}`, refused: notSupported},
	},
	"what is not valid": {
		{name: "empty body", body: "", refused: notJSON},
		{name: "half an object", body: `{"type":`, refused: notJSON},
		{name: "an array", body: `[]`, refused: &refusal{400, "bad_request", "The request has the wrong type.", false}},
		{name: "no type", body: `{}`, refused: badRequest("type is missing")},
		{name: "unknown type", body: `{"type":"threads.burn","params":{}}`, refused: badRequest("type is not one of ChatKit's")},
		{name: "type that is a number", body: `{"type":1,"params":{}}`, refused: badRequest("type has the wrong type")},
		{name: "no parameters", body: `{"type":"threads.get_by_id"}`, refused: badRequest("params.thread_id is missing")},
		{name: "parameters that are a text", body: `{"type":"threads.get_by_id","params":""}`, refused: badRequest("params has the wrong type")},
		{name: "no thread", body: `{"type":"threads.delete","params":{"thread_id":null}}`, refused: badRequest("params.thread_id is missing")},
		{name: "thread that is a number", body: `{"type":"threads.delete","params":{"thread_id":1}}`, refused: badRequest("params.thread_id has the wrong type")},
		{name: "no message", body: `{"type":"threads.create","params":{}}`, refused: badRequest("params.input is missing")},
		{name: "no message of the widget", body: `{"type":"threads.create","params":{}}`, widget: true, refused: badRequest("params.input is missing")},
		{name: "content of an unknown type", body: `{"type":"threads.create","params":{"input":{"content":[{"type":"image","text":"x"}],"attachments":[],"inference_options":{}}}}`, refused: badRequest("params.input.content has a part that is neither input_text nor input_tag")},
		{name: "no item to retry", body: unknown("threads.retry_after_item", ""), refused: badRequest("params.item_id is missing")},
		{name: "unknown order", body: `{"type":"threads.list","params":{"order":"up"}}`, refused: badRequest("params.order must be asc or desc")},
		{name: "limit that is a text", body: `{"type":"threads.list","params":{"limit":"many"}}`, refused: badRequest("params.limit has the wrong type")},
		{name: "no title", body: unknown("threads.update", ""), refused: badRequest("params.title is missing")},
		{name: "feedback of an unknown kind", body: unknown("items.feedback", `"item_ids":["a"],"kind":"so so"`), refused: badRequest("params.kind must be positive or negative")},
		{name: "feedback without items", body: unknown("items.feedback", `"kind":"positive"`), refused: badRequest("params.item_ids is missing or empty")},
	},
	"what is over a bound": {
		{name: "message without text", body: create(""), refused: badRequest("params.input.content has no text")},
		{name: "blank message", body: create(" \n"), refused: badRequest("params.input.content has no text")},
		{name: "long message", body: create(strings.Repeat("😀", 2000) + "."), refused: badRequest("params.input.content has 4001 characters, more than 4000")},
		{name: "long quote", body: strings.Replace(create("Hi"), `"quoted_text":""`, `"quoted_text":"`+strings.Repeat("x", 2001)+`"`, 1), refused: badRequest("params.input.quoted_text has more than 2000 characters")},
		{name: "large body", body: create(strings.Repeat("x", 64<<10)), refused: tooLarge},
		{name: "feedback on many items", body: unknown("items.feedback", `"item_ids":["a"`+strings.Repeat(`,"a"`, 20)+`],"kind":"positive"`), refused: badRequest("params.item_ids has more than 20 items")},
		{name: "negative limit", body: `{"type":"threads.list","params":{"limit":-1}}`, refused: badRequest("params.limit must not be negative")},
	},
	"a long message": {
		{name: "message", body: create(strings.Repeat("😀", 2000))},
	},
	"titles that are not titles": {
		{name: "message", body: create("Hi")},
		{name: "empty title", body: `{"type":"threads.update","params":{"thread_id":"<thread 1>","title":""}}`, refused: badRequest("params.title must have 1 to 200 characters")},
		{name: "long title", body: `{"type":"threads.update","params":{"thread_id":"<thread 1>","title":"` + strings.Repeat("x", 201) + `"}}`, refused: badRequest("params.title must have 1 to 200 characters")},
	},
}

// unknown is a request for a thread that does not exist, with more parameters.
func unknown(kind, params string) string {
	if params != "" {
		params = "," + params
	}
	return `{"type":"` + kind + `","params":{"thread_id":"thr_00000000"` + params + `}}`
}

// turns are short messages to the same thread.
func turns(from, to int) conversation {
	var c conversation
	for i := from; i <= to; i++ {
		c = append(c, request{name: fmt.Sprintf("message %d", i), body: add(script(fmt.Sprintf(`[{"write":"%d"}]`, i)))})
	}
	return c
}

// threads are short messages, each to a thread of its own.
func threads(n int) conversation {
	var c conversation
	for i := 1; i <= n; i++ {
		c = append(c, request{name: fmt.Sprintf("message %d", i), body: create(script(fmt.Sprintf(`[{"write":"%d"}]`, i)))})
	}
	return c
}
