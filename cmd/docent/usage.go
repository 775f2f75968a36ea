package main

const usage = `usage: docent                  serve until told to stop
       docent check [--json]   try everything that serving depends on, and say what to fix
       docent version          print which build this is
       docent help             print this text

Docent hands each visitor of a docs site a short-lived ChatKit session.

Environment variables configure it. ALLOWED_ORIGINS, OPENAI_API_KEY and
CHATKIT_WORKFLOW_ID are required; docs/configuration.md lists all variables.
"docent check --help" says more about the check.
`

const checkUsage = `usage: docent check            print a report as text
       docent check --json     print it as one JSON object in one line

The check tries everything that serving depends on: the configuration, the
secrets, Firestore and OpenAI. The report says of each whether it works and
what to fix. The check reads the same environment variables as the service. It
is safe to run on production: it mints one session and cancels it.

The exit status is 0 if everything works and 1 if anything failed.
`

// usageOf returns the usage that helps with wrong arguments.
func usageOf(args []string) string {
	if args[0] == "check" {
		return checkUsage
	}
	return usage
}
