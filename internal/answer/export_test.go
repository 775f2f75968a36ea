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
