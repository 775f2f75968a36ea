package main

const usage = `usage: docent                       serve until told to stop
       docent check [--json]        try what serving depends on, say what to fix
       docent index [options] DIR   make an index of a built docs site
       docent search QUESTION…      print the sections that a question is about
       docent ask QUESTION…         answer a question, as visitors get it
       docent eval FILE.jsonl       measure the search with known answers
       docent threads               print what visitors asked
       docent version               print which build this is
       docent help [COMMAND]        print this text, or the help of a command

Docent puts an AI chat on a docs site. Environment variables configure it.
ALLOWED_ORIGINS, OPENAI_API_KEY and CHATKIT_WORKFLOW_ID are required to serve;
docs/configuration.md lists all variables. "docent COMMAND --help" says more
about a command.

The exit status is 0 for success, 1 for a failure, which is explained on
standard error, and 2 for wrong arguments.
`

const checkUsage = `usage: docent check            print a report as text
       docent check --json     print it as one JSON object in one line

The check tries everything that serving depends on: the configuration, the
secrets, Firestore, OpenAI, and the index or the vector store. The report says
of each whether it works and what to fix. The check reads the same environment
variables as the service. It is safe to run on production: it mints one
session and cancels it, and writes one conversation and deletes it. Where
Docent answers from the docs, the model writes an answer of at most 16 tokens,
which costs far less than a cent.

The exit status is 0 if everything works and 1 if anything failed.
`

const indexUsage = `usage: docent index [options] DIR

Reads the HTML of a built docs site, from any generator, and writes an index:
one file, from which "docent search" and the service find passages. DIR is the
folder that the generator has written.

  --site URL             the URL that DIR is served at, such as
                         https://docs.example.com; without it, the canonical
                         links of the pages say
  --out FILE             where to write the index (default docs.index, in the
                         current folder)
  --previous FILE|URL    an earlier index, such as the published one: its
                         embeddings are used again (default: the index at --out)
  --no-embeddings        make no embeddings, although there is a key
  --code-attribute NAME  the attribute in which the site keeps the text of its
                         code blocks, if it does
  --version-path PATH    where a page's path has its version, such as
                         /docs/{version}/
  --versions LIST        the values that stand there, such as 2.x,1.x,next; with
                         any other value, a page is of the default version
  --default-version V    the version that visitors get first
  --verbose              list every file that was left out
  --json                 print one JSON object instead of text

Environment:

  OPENAI_API_KEY         makes embeddings (text-embedding-3-small, 512
                         dimensions) of what --previous does not have, and says
                         what that costs: a key, or a reference such as
                         sm://openai-api-key. Without it, the search goes by
                         words alone
  OPENAI_BASE_URL        for a gateway
  GOOGLE_CLOUD_PROJECT   the project of a short sm:// reference
  CI                     if set, there is no progress bar

The index is written only once it is complete. If the embeddings are
interrupted, those that are paid for are kept in FILE.partial: run the command
again, and it goes on from there. A --previous that cannot be read is a
warning, and everything is embedded again.

The exit status is 0 if the index was written, 1 if not, and 2 for wrong
arguments.

Examples:

  docent index --site https://docs.example.com build
  docent index --site https://docs.example.com --out build/docs.index \
    --previous https://docs.example.com/docs.index build
`

const searchUsage = `usage: docent search [options] QUESTION…

Prints the sections of the docs that a question is about, best first. No chat
model is asked. The scores order the sections of one search and have no other
meaning.

  --index FILE|URL   the index (default: what DOCS_INDEX says)
  --page URL         the page that is being read: its version and language count
  --language LIST    the languages that are read, such as de or de,en;q=0.8
  -n N               how many sections, 1 to 100 (default 10)
  --json             print [{"url", "title", "headings": ["…"], "score"}]

Environment:

  DOCS_INDEX         the index: a path, an https URL, or http on loopback
  OPENAI_API_KEY     makes the embedding of the question, if the index has
                     embeddings. Without it, the search goes by words alone
  OPENAI_BASE_URL    for a gateway

The exit status is 0, also if nothing was found, 1 for a failure, and 2 for
wrong arguments. A question that has words with hyphens in front comes after
--.

Examples:

  docent search --index docs.index "How do I install it?"
  docent search --index https://docs.example.com/docs.index --json -n 3 install
`

const askUsage = `usage: docent ask [options] QUESTION…

Answers a question as a visitor of the site gets it: the passages are found, the
model answers from them, and the answer is printed as it streams, with the
sources that it cites. No limit counts it, and nothing is stored.

  --index FILE|URL   the index (default: what DOCS_INDEX says)
  --page URL         the page that is being read: its version and language count
  --language LIST    the languages that are read, such as de or de,en;q=0.8
  --json             print {"answer", "outcome", "sources": [{"url", "title"}],
                     "passages", "tokens_in", "tokens_out", "first_delta_ms",
                     "answer_ms"} at the end

Environment:

  OPENAI_API_KEY     required: a model answers
  OPENAI_BASE_URL    for a gateway
  DOCS_INDEX         the index: a path, an https URL, or http on loopback
  VECTOR_STORE_ID    OpenAI's vector store instead
  ANSWER_MODEL, ANSWER_EFFORT, ANSWER_MAX_TOKENS, ANSWER_TIMEOUT,
  ASSISTANT_INSTRUCTIONS
                     as for the service

The exit status is 0 if there is an answer, also one that says that the docs do
not have any, 1 for a failure, and 2 for wrong arguments.

Example:

  docent ask --index docs.index "How do I install it?"
`

const evalUsage = `usage: docent eval [options] FILE.jsonl

Measures how well the search answers questions whose answers are known. FILE
has a question in each line, and the sections that answer it:

  {"q": "How do I install it?", "answers": ["/install#linux", "/install#macos"]}

An answer is a path on the site, or a URL, with the heading's anchor. Without
an anchor it is the text before the page's first heading that has one. A
question counts as answered if any of its answers is found.

It prints recall at 1, 5 and 10, which is the share of questions with an answer
among so many sections; MRR, the mean of 1 divided by the rank of the first
answer among ten; and what was found for questions without an answer among ten.

  --index FILE|URL   the index (default: what DOCS_INDEX says)
  --min SHARE        fail if recall at 10 is less, such as 0.9
  --pages            an answer without an anchor is any section of the page
  --json             print {"n", "recall": {"1", "5", "10"}, "mrr",
                     "misses": [{"q", "answers", "found": ["…"]}]}

Environment:

  DOCS_INDEX         the index: a path, an https URL, or http on loopback
  OPENAI_API_KEY     makes the embeddings of the questions, if the index has
                     embeddings. Without it, the search goes by words alone
  OPENAI_BASE_URL    for a gateway

The exit status is 0, 1 if recall is less than --min or FILE has a fault, such
as an answer that the index does not have, and 2 for wrong arguments.

Example:

  docent eval --index docs.index --min 0.9 questions.jsonl
`

const threadsUsage = `usage: docent threads [options]

Prints what visitors asked and what was answered, from Firestore, the newest
conversations first, for those who may read it there (roles/datastore.viewer).
It does not say who asked: Docent does not know either. What visitors write can
be personal.

  --feedback KIND    only answers that visitors found positive or negative, or
                     no-source: answers that cite nothing
  --since AGE        how far back, such as 36h or 30d (default 7d)
  -n N               how many questions, 1 to 10000 (default 100)
  --json             print {"time", "question", "answer", "feedback", "sources"},
                     one question a line

Environment:

  GOOGLE_CLOUD_PROJECT     the service's project
  FIRESTORE_DATABASE, FIRESTORE_EMULATOR_HOST, THREADS_KEEP
                           as for the service

The exit status is 0, also if nothing was found, 1 for a failure, and 2 for
wrong arguments. The query needs an index, which the service does not: if it is
missing, the command prints how to create it.

Example:

  docent threads --feedback negative --since 7d
`
