package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"docent/internal/docs"
)

const (
	// searches is how many questions are asked to measure one.
	searches = 200
	// dimensions are those of a real index.
	dimensions = 512
)

// sizes are those of a small site, a large one, and the largest that is meant.
var sizes = []int{600, 5000, 20_000}

// measureSpeed prints a table for sites of several sizes, each measured in a process
// of its own.
func measureSpeed(ctx context.Context, indexes []string) error {
	var sites []*docs.Site
	for _, index := range indexes {
		site, err := docs.Load(ctx, index)
		if err != nil {
			return err
		}
		sites = append(sites, site)
	}
	dir, err := os.MkdirTemp("", "quality")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // It is the system's temporary folder.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "sections\tpieces\tfile\tloading\tsearch, words\tfused\tslowest\tresident\twith a refresh")
	for _, n := range sizes {
		file := filepath.Join(dir, fmt.Sprint(n))
		if err := write(file, synthetic(sites, n)); err != nil {
			return err
		}
		runtime.GC() // The two processes share the machine.

		cmd := exec.CommandContext(ctx, self, "-one", file) //nolint:gosec // This program.
		cmd.Stderr = os.Stderr
		row, err := cmd.Output()
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%d\t%s", n, row)
	}
	return table.Flush()
}

func write(file string, site *docs.Site) error {
	f, err := os.Create(file) //nolint:gosec // A temporary file.
	if err != nil {
		return err
	}
	return errors.Join(docs.Write(f, site), f.Close())
}

// synthetic returns a site of n sections, or a few more: the sections of real sites,
// again and again. In each copy a fifth of the words are other ones, so that the
// vocabulary grows as that of a real site does. The vectors are random.
func synthetic(sites []*docs.Site, n int) *docs.Site {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // The same site in each run.
	large := &docs.Site{Language: "en", Model: "text-embedding-3-small", Dimensions: dimensions}
	for sections, copies := 0, 0; ; copies++ {
		for i, site := range sites {
			for j, p := range site.Pages {
				page := docs.Page{
					URL:      fmt.Sprintf("https://docs.example.com/%d/%d/%d", copies, i, j),
					Title:    varied(p.Title, copies),
					Language: "en",
				}
				for _, s := range p.Sections {
					section := docs.Section{Anchor: s.Anchor, Text: varied(s.Text, copies)}
					for _, h := range s.Headings {
						section.Headings = append(section.Headings, varied(h, copies))
					}
					section.Pieces = docs.Split(section.Text)
					for k := range section.Pieces {
						section.Pieces[k].SetVector(direction(r))
					}
					page.Sections = append(page.Sections, section)
				}
				large.Pages = append(large.Pages, page)
				if sections += len(page.Sections); sections >= n {
					return large
				}
			}
		}
	}
}

func direction(r *rand.Rand) []float32 {
	v := make([]float32, dimensions)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// varied returns a text in which each fifth word has another ending, the same one
// wherever the word stands in the same copy.
func varied(text string, copies int) string {
	if copies == 0 {
		return text
	}
	var b strings.Builder
	word := 0 // Where it starts in the text.
	end := func(at int) {
		b.WriteString(text[word:at])
		if h := fnv.New32a(); at-word > 3 {
			fmt.Fprintf(h, "%s%d", text[word:at], copies)
			if sum := h.Sum32(); sum%5 == 0 {
				b.WriteString([]string{"an", "el", "ir", "os", "um"}[sum/5%5] + strings.Repeat("k", copies%7))
			}
		}
	}
	for i, c := range text {
		if !unicode.IsLetter(c) {
			end(i)
			b.WriteRune(c)
			word = i + len(string(c))
		}
	}
	end(len(text))
	return b.String()
}

// near is an embedder that answers at once, with a random vector.
type near struct{ r *rand.Rand }

func (n near) Embed(_ context.Context, _ string, _ int, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	for i := range vectors {
		vectors[i] = direction(n.r)
	}
	return vectors, nil
}

// measureOne prints a row of the table.
func measureOne(ctx context.Context, file string) error {
	start := time.Now()
	x, err := load(ctx, file)
	if err != nil {
		return err
	}
	loading := time.Since(start)
	stat, err := os.Stat(file)
	if err != nil {
		return err
	}
	questions := questionsOf(x.Site())
	fused, slowest, err := timeOf(ctx, x, questions)
	if err != nil {
		return err
	}
	resident := peak()
	again, err := load(ctx, file)
	if err != nil {
		return err
	}
	refreshed := peak()
	runtime.KeepAlive(x)
	words, _, err := timeOf(ctx, docs.NewIndex(again.Site(), nil), questions)
	if err != nil {
		return err
	}
	fmt.Printf("%d\t%.1f MB\t%s\t%s\t%s\t%s\t%s MB\t%s MB\n", x.Vectors(), float64(stat.Size())/1e6,
		loading.Round(time.Millisecond), words, fused, slowest, resident, refreshed)
	return nil
}

func load(ctx context.Context, file string) (*docs.Index, error) {
	site, err := docs.Load(ctx, file)
	if err != nil {
		return nil, err
	}
	return docs.NewIndex(site, near{rand.New(rand.NewPCG(3, 4))}), nil //nolint:gosec // The same in each run.
}

// questionsOf returns questions of the length of real ones in the site's own words:
// each is eight words from the middle of a section.
func questionsOf(site *docs.Site) []string {
	var texts []string
	for _, p := range site.Pages {
		for _, s := range p.Sections {
			if words := strings.Fields(s.Text); len(words) > 20 {
				texts = append(texts, strings.Join(words[len(words)/2-4:len(words)/2+4], " "))
			}
		}
	}
	var questions []string
	for i := range searches {
		questions = append(questions, texts[i*len(texts)/searches])
	}
	return questions
}

// timeOf returns the median and the longest time of a search.
func timeOf(ctx context.Context, x *docs.Index, questions []string) (median, longest time.Duration, err error) {
	var times []time.Duration
	for _, q := range questions {
		start := time.Now()
		if _, err := x.Passages(ctx, docs.Query{Question: q}); err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2].Round(10 * time.Microsecond), times[len(times)-1].Round(10 * time.Microsecond), nil
}

// peak returns the most that was resident, in MB, or a question mark where the
// system does not say.
func peak() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "?"
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kB int
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		return "?"
	}
	return fmt.Sprint(kB * 1024 / 1e6)
}
