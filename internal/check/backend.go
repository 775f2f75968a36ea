package check

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"docent/internal/app"
	"docent/internal/config"
	"docent/internal/httpapi"
	"docent/internal/origin"
	"docent/internal/redact"
)

// backend says who answers, and where visitors send their messages.
func backend(c config.Config) Result {
	source := "the vector store"
	if c.DocsIndex != "" {
		source = "the index"
	}
	who := "Docent, from " + source
	if c.Hosted() {
		who = "the hosted workflow, until OpenAI refuses it, then " + who
	}
	scheme := "http or https"
	if c.OnCloudRun {
		scheme = "https"
	}
	address := fmt.Sprintf("from the request's Host (%s) with the path %s/chat", scheme, httpapi.BasePath)
	var faults, notes []string
	if c.PublicURL != "" {
		address = c.PublicURL + httpapi.BasePath + "/chat"
		if u, err := url.Parse(c.PublicURL); err == nil && c.OnCloudRun && isLoopback(u.Hostname()) {
			faults = append(faults, "PUBLIC_URL is on loopback, which for visitors is their own machine: set it to the service's address")
		}
	}
	for _, limit := range []struct {
		variable string
		value    config.Limit
	}{
		{"ANSWERS_AT_ONCE", c.AnswersAtOnce},
		{"RATE_LIMIT_MESSAGES_PER_MINUTE", c.MessagesPerMinute},
		{"ANSWERS_PER_DAY_PER_ADDRESS", c.AnswersPerDayPerAddress},
		{"ANSWERS_PER_DAY", c.AnswersPerDay},
	} {
		if limit.value == 0 {
			notes = append(notes, limit.variable+" is 0, so Docent answers no question")
		}
	}
	return verdict(who+"; api.url is "+address, faults, notes)
}

// domainKeys checks that ChatKit finds a key for each host where it asks for one.
func domainKeys(c config.Config) Result {
	var faults, notes []string
	if missing := c.MissingDomainKeys(); len(missing) > 0 {
		faults = append(faults, "CHATKIT_DOMAIN_KEYS "+config.MissingKeys(missing))
	}
	hosts := slices.Sorted(maps.Keys(c.DomainKeys))
	for _, host := range hosts {
		if strings.HasPrefix(c.DomainKeys[host], "sk-") {
			faults = append(faults, "CHATKIT_DOMAIN_KEYS has an API key for "+host+", which every page would show: "+
				"revoke it at https://platform.openai.com/api-keys and set the domain's public key")
		}
	}
	if c.PublicURL == "" || origin.Verified(c.PublicURL) {
		for entry := range strings.SplitSeq(c.AllowedOrigins.String(), ",") {
			if strings.Contains(entry, "*") && origin.Verified(strings.ReplaceAll(entry, "*", "x")) {
				notes = append(notes, entry+" also allows hosts without a key: Docent answers there only if CHATKIT_DOMAIN_KEYS has their keys, too")
			}
		}
	}
	detail := "no host has a key, and none that is listed needs one"
	if len(hosts) > 0 {
		detail = "for " + strings.Join(hosts, ", ")
	}
	return verdict(detail, faults, notes)
}

// instructions checks the site's own instructions. It says how long they are, and
// nothing of what is in them.
func (c *checkup) instructions(ctx context.Context) Result {
	if name, isFile := c.config.InstructionsFile(); isFile {
		text, err := app.ReadInstructions(name)
		if err != nil {
			return fail("%s", redact.Text(err.Error(), maxWords))
		}
		name = redact.Text(name, maxWords)
		if fault, _ := instructionsShape(text); fault != "" {
			return fail("%s: %s", name, fault)
		}
		return ok("%s, %s", name, lengthOf(text))
	}
	w := &wanted{variable: instructionsCheck, ref: c.config.Instructions, shape: instructionsShape}
	defer w.close()
	result := c.secret(ctx, w)
	if w.usable {
		result.Detail += ", " + lengthOf(w.value.Get())
	}
	return result
}

func instructionsShape(text string) (fault string, notes []string) {
	if utf8.RuneCountInString(text) > config.MaxInstructions {
		return fmt.Sprintf("it has more than %d characters: shorten it", config.MaxInstructions), nil
	}
	return "", nil
}

func lengthOf(text string) string { return fmt.Sprintf("%d characters", utf8.RuneCountInString(text)) }
