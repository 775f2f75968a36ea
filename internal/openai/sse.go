package openai

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxStream is the most that is read of a streamed response, in bytes.
const maxStream = 1 << 20

var errLargeStream = fmt.Errorf("the stream is larger than %d kB", maxStream>>10)

// eachEvent calls handle with the data of each server-sent event of a stream, until
// handle returns done or an error, or the stream ends. Comments, names of events and
// the end mark of other APIs are passed over: the data says what an event is.
func eachEvent(stream io.Reader, handle func(data []byte) (done bool, err error)) error {
	limited := &io.LimitedReader{R: stream, N: maxStream + 1}
	lines := bufio.NewReader(limited)
	var data []byte
	for {
		line, err := lines.ReadBytes('\n')
		if limited.N <= 0 {
			return errLargeStream
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err //nolint:wrapcheck // The caller says whose stream it was.
		}
		line = bytes.TrimRight(line, "\r\n")
		if text, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = append(append(data, bytes.TrimPrefix(text, []byte(" "))...), '\n')
		}
		if len(line) > 0 && err == nil {
			continue
		}
		data = bytes.TrimSpace(data)
		if len(data) > 0 && string(data) != "[DONE]" {
			if done, failure := handle(data); done || failure != nil {
				return failure
			}
		}
		if err != nil {
			return nil //nolint:nilerr // It is the end of the stream.
		}
		data = data[:0]
	}
}
