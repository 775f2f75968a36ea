#!/usr/bin/env bash
# Measures the search on real docs sites, in the folder in $1: builds and indexes
# them with a small embedding model in OpenAI's place, and prints what the search
# finds, how fast it is and what memory it takes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
"$here/sites.sh" "$1"
go build -trimpath -o "$1/docent" ./cmd/docent
go build -trimpath -o "$1/quality" ./bench/quality
cd "$1"

if ! cmp -s "$here/embeddings.txt" model/embeddings.txt; then
	python3 -m venv --clear model
	model/bin/pip install -q --no-deps --require-hashes -r "$here/embeddings.txt"
	cp "$here/embeddings.txt" model/
fi
model/bin/python "$here/embeddings.py" --port=0 --dimensions=512 >embeddings.url &
standin=$!
trap 'kill "$standin"' EXIT
until [ -s embeddings.url ]; do
	kill -0 "$standin"
	sleep 0.2
done
OPENAI_BASE_URL=$(cat embeddings.url)
export OPENAI_BASE_URL

for site in hatch scrapy; do
	# On a busy machine the stand-in may take too long. Each try goes on from the last.
	tries=5
	until OPENAI_API_KEY=sk-test ./docent index --out="$site.index" "sites/$site"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ]
	done
done
./quality -embeddings="$OPENAI_BASE_URL" -misses \
	hatch.index "$here/hatch.jsonl" scrapy.index "$here/scrapy.jsonl" \
	hatch.index "$here/hatch-2.jsonl" scrapy.index "$here/scrapy-2.jsonl"

echo
./quality -speed hatch.index scrapy.index

# A thousand pages: the sites' own in several folders. Canonical links would make one
# page of the copies.
echo
rm -rf pages
for copy in 1 2 3 4; do
	mkdir -p "pages/$copy"
	cp -r sites/hatch sites/scrapy "pages/$copy"
done
find pages -name '*.html' -exec sed -i -E 's/<link [^>]*canonical[^>]*>//' {} +
echo "docent index of $(find pages -name '*.html' | wc -l) HTML files:"
time ./docent index --no-embeddings --site=https://docs.example.com --out=pages.index pages
