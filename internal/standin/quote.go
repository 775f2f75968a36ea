package standin

import (
	"cmp"
	"html"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// passage is a block of a prompt that an answer may quote.
type passage struct {
	id string
	// title is the title of the page, with the headings where the block has them
	// in the same place.
	title string
	// about is title, headings and whatever else the block's head says.
	about string
	text  string
}

var (
	blockPattern     = regexp.MustCompile(`(?s)<BLOCK\b([^>]*)>(.*?)</BLOCK>`)
	attributePattern = regexp.MustCompile(`([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')`)
	// labelPattern matches a line of a block's head.
	labelPattern = regexp.MustCompile(`(?i)^\s*(title|page|headings?|heading path|path|section|url|link|source|text|content)\s*:\s*(.*)$`)
	linkPattern  = regexp.MustCompile(`^\s*https?://\S+\s*$`)
	// questionTag and questionLabel match what may surround the question.
	questionTag   = regexp.MustCompile(`(?is)<question\b[^>]*>(.*?)</question>`)
	questionLabel = regexp.MustCompile(`(?im)^[\w’' ]*question\s*:`)
	// listMark matches what comes before the text of a list's item or a heading.
	listMark = regexp.MustCompile(`^(?:[-*+]|\d+[.)]|#{1,6})\s+`)
)

// parsePrompt returns the blocks of a message, and the question, which stands after
// them or before them. It does not insist on a form: the stand-in should not have to
// change with each word of a prompt.
func parsePrompt(message string) (passages []passage, question string) {
	found := blockPattern.FindAllStringSubmatchIndex(message, -1)
	for _, at := range found {
		if p := parsePassage(message[at[2]:at[3]], message[at[4]:at[5]]); p.id != "" {
			passages = append(passages, p)
		}
	}
	question = message
	if len(found) > 0 {
		if question = message[found[len(found)-1][1]:]; strings.TrimSpace(question) == "" {
			question = message[:found[0][0]]
		}
	}
	if tag := questionTag.FindStringSubmatch(question); tag != nil {
		question = tag[1]
	} else if label := questionLabel.FindStringIndex(question); label != nil {
		question = question[label[1]:]
	}
	return passages, question
}

// parsePassage reads the attributes and the inside of a block.
func parsePassage(attributes, inside string) passage {
	var p passage
	about := []string{}
	describe := func(label, value string) {
		value = strings.TrimSpace(value)
		switch strings.ToLower(label) {
		case "id":
			p.id = value
			return
		case "url", "link", "source":
			return
		case "title", "page":
			p.title = value
		}
		about = append(about, value)
	}
	for _, a := range attributePattern.FindAllStringSubmatch(attributes, -1) {
		describe(a[1], html.UnescapeString(a[2]+a[3]))
	}
	lines := strings.Split(strings.Trim(inside, "\r\n"), "\n")
	if len(lines) > 1 && linkPattern.MatchString(lines[1]) && !labelPattern.MatchString(lines[0]) {
		describe("title", lines[0])
		lines = lines[1:]
	}
	for len(lines) > 0 {
		label := labelPattern.FindStringSubmatch(lines[0])
		if label == nil && !linkPattern.MatchString(lines[0]) {
			break
		}
		if label != nil && (strings.EqualFold(label[1], "text") || strings.EqualFold(label[1], "content")) {
			lines[0] = label[2]
			break
		}
		if label != nil {
			describe(label[1], label[2])
		}
		lines = lines[1:]
	}
	p.about = strings.Join(about, " ")
	p.title = cmp.Or(p.title, p.about)
	p.text = strings.TrimSpace(strings.Join(lines, "\n"))
	return p
}

// quote is a part of a passage that an answer may have: a sentence, code, or both.
type quote struct {
	passage  *passage
	sentence string
	// code follows the sentence, which announces it with a colon, or stands alone.
	code  string
	score float64
}

func (q *quote) text() string { return q.sentence + "\n" + q.code }

// quotesOf cuts the text of a passage into sentences and code.
func quotesOf(p *passage) []quote {
	var quotes []quote
	for i, part := range strings.Split(p.text, "```") {
		if i%2 == 1 { // It is between fences.
			code := "```" + strings.TrimRight(part, " \n") + "\n```"
			if last := len(quotes) - 1; last >= 0 && strings.HasSuffix(quotes[last].sentence, ":") {
				quotes[last].code = code
			} else {
				quotes = append(quotes, quote{passage: p, code: code})
			}
			continue
		}
		for _, sentence := range sentencesOf(part) {
			quotes = append(quotes, quote{passage: p, sentence: sentence})
		}
	}
	return quotes
}

// column is what stands between two cells of a table's row.
const column = " | "

// sentencesOf cuts prose at the end of each sentence, and of each line that the next
// one does not continue.
func sentencesOf(prose string) []string {
	var sentences []string
	start := 0
	cut := func(end int) {
		s := strings.TrimSpace(prose[start:end])
		if s = listMark.ReplaceAllString(s, ""); s != "" {
			sentences = append(sentences, s)
		}
		start = end
	}
	table := strings.Contains(prose, column)
	for i, r := range prose {
		next := strings.TrimLeft(prose[i+utf8.RuneLen(r):], " ")
		first, _ := utf8.DecodeRuneInString(next)
		switch {
		case r == '\n' && (table || !unicode.IsLower(first)),
			strings.ContainsRune(".!?", r) && strings.HasPrefix(prose[i+1:], " ") && !unicode.IsLower(first):
			cut(i + 1)
		}
	}
	cut(len(prose))
	return sentences
}

// stopWords say nothing of what a question is about.
var stopWords = func() map[string]bool {
	words := map[string]bool{}
	for _, w := range strings.Fields(`a about all am an and any are as at be been but by can could did do does doing for from get
		had has have how i if in into is it its like may me mean my need no not of off on one or our out please s should so some
		t tell than that the their them then there these they this those to too us use used using want was we were what
		when where which while who why will with would you your docs documentation page explain work`) {
		words[w] = true
	}
	return words
}()

// topicsOf returns the stems of the words of a text that say what it is about.
func topicsOf(text string) map[string]bool {
	topics := map[string]bool{}
	for _, w := range wordsOf(text) {
		if stopWords[w] {
			continue
		}
		for _, ending := range []string{"ments", "ment", "ing", "ed", "es", "s", "e"} {
			if stem, ok := strings.CutSuffix(w, ending); ok && len(stem) > 2 {
				w = stem
				break
			}
		}
		topics[w] = true
	}
	return topics
}

// common returns the topics of a question that are in a text, in their order.
func common(question []string, text string) (topics []string) {
	in := topicsOf(text)
	for _, topic := range question {
		if in[topic] {
			topics = append(topics, topic)
		}
	}
	return topics
}

// maxQuotes is how many quotes an answer has at most.
const maxQuotes = 3

// best returns the quotes that fit a question best, best first. A quote fits if it
// has a word of the question and, with the title and headings it stands below, as
// many as it takes not to be there by chance. The fewer quotes have a word, the more
// it counts.
func best(passages []passage, question string) []quote {
	topics := slices.Sorted(maps.Keys(topicsOf(question)))
	var all []quote
	having := map[string]float64{} // How many quotes have a topic.
	seen := map[string]bool{}      // Passages may overlap.
	for i := range passages {
		for _, q := range quotesOf(&passages[i]) {
			if !seen[q.text()] {
				seen[q.text()] = true
				all = append(all, q)
				for _, topic := range common(topics, q.text()) {
					having[topic]++
				}
			}
		}
	}
	weight := func(topic string) float64 { return math.Log(1 + float64(len(all))/max(1, having[topic])) }
	var fitting []quote
	for _, q := range all {
		own, about := common(topics, q.text()), common(topics, q.passage.about)
		if len(own) == 0 || len(own)+len(about) < min(2, len(topics)) {
			continue
		}
		for _, topic := range own {
			q.score += weight(topic)
		}
		for _, topic := range about {
			q.score += weight(topic) / 2
		}
		if strings.Contains(q.sentence, column) {
			q.score /= 2 // A row says little without its table.
		}
		fitting = append(fitting, q)
	}
	slices.SortStableFunc(fitting, func(a, b quote) int { return cmp.Compare(b.score, a.score) })
	var chosen []quote
	for i, q := range fitting {
		// Code alone is quoted only where it fits best.
		if len(chosen) == maxQuotes || q.score < fitting[0].score/2 || i > 0 && q.sentence == "" {
			continue
		}
		chosen = append(chosen, q)
	}
	return chosen
}

// marker cites a block.
func marker(id string) string { return "\uE200cite\uE202" + id + "\uE201" }

// answerTo answers the question of a message from its blocks, in quotes with their
// citations. If none fits, it says so.
func answerTo(message string) string {
	passages, question := parsePrompt(message)
	var paragraphs []string
	for _, q := range best(passages, question) {
		cited := marker(q.passage.id)
		switch {
		case q.code == "":
			paragraphs = append(paragraphs, q.sentence+cited)
		case q.sentence == "":
			paragraphs = append(paragraphs, q.code+"\n"+cited) // No marker stands in code.
		default:
			paragraphs = append(paragraphs, q.sentence+cited, q.code)
		}
	}
	switch {
	case len(paragraphs) > 0:
		return strings.Join(paragraphs, "\n\n")
	case len(passages) > 0 && passages[0].title != "":
		return "These docs do not have an answer to that. The nearest page is “" + passages[0].title + "”."
	default:
		return "These docs do not have an answer to that."
	}
}
