package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"docent/internal/app"
)

const (
	// barEvery is how often a progress bar is drawn, at the most.
	barEvery = 100 * time.Millisecond
	barWidth = 30
)

// A bar shows progress in one line of a terminal. The zero bar shows nothing.
type bar struct {
	w     io.Writer
	label string
	drawn time.Time
}

// newBar returns a bar on standard error if that is a terminal. In CI a log would
// keep each state of it.
func newBar(p app.Process, label string) *bar {
	f, ok := p.Stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || p.Environment["CI"] != "" || p.Environment["TERM"] == "dumb" {
		return &bar{}
	}
	return &bar{w: f, label: label}
}

// show draws the bar. It is called often.
func (b *bar) show(done, total int) {
	if b.w == nil || total == 0 || time.Since(b.drawn) < barEvery {
		return
	}
	b.drawn = time.Now()
	full := barWidth * min(done, total) / total
	fmt.Fprintf(b.w, "\r%s [%s%s] %d of %d\x1b[K", b.label, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), done, total)
}

// say shows a text in place of the bar.
func (b *bar) say(text string) {
	if b.w != nil {
		b.drawn = time.Now()
		fmt.Fprintf(b.w, "\r%s\x1b[K", text)
	}
}

// clear removes what is shown.
func (b *bar) clear() {
	if !b.drawn.IsZero() {
		b.drawn = time.Time{}
		fmt.Fprint(b.w, "\r\x1b[K") //nolint:errcheck // It is only a terminal.
	}
}
