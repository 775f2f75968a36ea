// Package chatkit is a server for OpenAI's ChatKit: the element in a page that then
// talks to a server of the page's own. It is the protocol alone. It knows nothing of
// HTTP, of a model, or of where conversations are kept.
//
// # The protocol
//
// A client sends one JSON object for each request, {"type", "params"}, with a POST.
// Some types are answered with JSON, and those that lead to an answer with a stream
// of server-sent events. [Parse] reads a request, and [Type.Streams] tells which it
// is.
//
// A [Server] answers both kinds, with two parts that its user brings:
//
//   - a [Responder], which answers a question by writing to an [Answer];
//   - a [Store], which keeps conversations: [NewMemory] returns one.
//
// Everything else is the server's: the order of events, the IDs, paging, titles,
// what is stored when, and what happens when the visitor leaves in the middle.
//
// # A server of your own
//
//	server := chatkit.New(chatkit.Options{
//		Store:        chatkit.NewMemory(30*24*time.Hour, time.Now),
//		Responder:    responder,
//		StoreTimeout: 4 * time.Second,
//		Now:          time.Now,
//	})
//
// For each request, find out who the visitor is, by something that they cannot
// choose, and:
//
//	request, err := chatkit.Parse(body)
//	if !request.Type.Streams() {
//		value, err := server.Query(ctx, visitor, request) // Encode it as JSON.
//	}
//	turn, err := server.Begin(ctx, visitor, request, chatkit.Reader{})
//	result := turn.Stream(ctx, func(e chatkit.Event) error {
//		text, err := e.Encode() // Write it, and flush.
//	})
//
// Three habits of ChatKit's matter to whoever writes the HTTP part. It shows nothing
// to a visitor whose streaming request is answered with a 4xx; send an
// [ErrorEvent] instead. It sends a request again, up to five times, that is answered
// with a 5xx or is not a stream. And it only stops an answer by closing the
// connection, so ctx must end then.
//
// # A turn
//
// A message and its answer are a [Turn]. It costs one read of the store, none for a
// new thread, and two writes: of the message, while it is being answered, and of the
// answer. The answer is stored before its last event is sent, so a visitor who has
// seen an answer finds it again. One that ends early is stored as far as it came, with
// a hidden note for the model.
//
// While the store is down, questions are answered without what was said before, and
// the visitor is told that the conversation is not saved.
//
// The types encode to the JSON of the reference, the Python package openai-chatkit.
// They cover what a chat about documents needs: messages, annotations with URLs,
// progress, notices and errors, but no widgets, client tools, uploads or dictation.
package chatkit
