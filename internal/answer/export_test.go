package answer

import "docent/internal/chatkit"

// Filter passes deltas through a filter to an output, and the end after them.
func Filter(out output, sources map[string]chatkit.URLSource, deltas ...string) error {
	f := filter{out: out, sources: sources}
	for _, d := range deltas {
		if err := f.add(d); err != nil {
			return err
		}
	}
	return f.end()
}

// Instructions, Input and Clean make the parts of a prompt. FixedInstructions come
// first in all.
var (
	Instructions = instructions
	Input        = input
	Clean        = clean
)

// FixedInstructions are the rules of all answers.
const FixedInstructions = fixedInstructions
