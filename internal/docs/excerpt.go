package docs

import (
	"strings"
	"unicode/utf8"
)

const fence = "```"

// around returns the part of a text around text[start:end], of at most length
// characters. It begins and ends with a line where that is possible, and closes a
// code block that it opens.
func around(text string, start, end, length int) string {
	if utf8.RuneCountInString(text) <= length {
		return text
	}
	length -= 2 * (len(fence) + 1) // For a code block that is cut at both ends.
	room := max(length-utf8.RuneCountInString(text[start:end]), 0)
	from := min(back(text, start, room/2), back(text, len(text), length))
	part, _, _ := cut(text[from:], length)
	if line := strings.IndexByte(part, '\n'); from > 0 && text[from-1] != '\n' && line >= 0 && from+line < start {
		part = part[line+1:]
		from += line + 1
	}
	if line := strings.LastIndexByte(part, '\n'); from+len(part) < len(text) && from+line >= end {
		part = part[:line]
	}
	if fences(text[:from])%2 == 1 {
		part = fence + "\n" + part
	}
	if fences(part)%2 == 1 {
		part += "\n" + fence
	}
	return strings.TrimSpace(part)
}

// fences returns how many lines of a text begin with a fence.
func fences(text string) int {
	return strings.Count("\n"+text, "\n"+fence)
}

// back returns the offset of the character that is n before at.
func back(text string, at, n int) int {
	for ; n > 0 && at > 0; n-- {
		_, size := utf8.DecodeLastRuneInString(text[:at])
		at -= size
	}
	return at
}
