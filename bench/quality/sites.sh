#!/bin/sh
# Builds the docs of Hatch (MkDocs Material) and Scrapy (Sphinx) from their source
# distributions, as sites/hatch and sites/scrapy below the folder in $1.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"

python=$PWD/python
if ! cmp -s "$here/sites.txt" python/sites.txt; then
	python3 -m venv --clear python
	python/bin/pip install -q --require-hashes -r "$here/sites.txt"
	cp "$here/sites.txt" python/
fi
PATH=$python/bin:$PATH

rm -rf sources sites
pip download -q --no-deps --no-binary=:all: --no-build-isolation --require-hashes \
	-r "$here/sources.txt" -d sources
for archive in sources/*.tar.gz; do
	tar xzf "$archive" -C sources
done

# Hatch: left out are what needs a Git repository, a website or pictures of cards,
# and the folder of a package that its source distribution lacks. The version is
# named, because finding it would install more.
cd sources/hatch-*/
python - <<'EOF'
import re
from pathlib import Path

config = Path("mkdocs.yml").read_text()
config = re.sub(r"(?m)^  (git-committers|social|mike|git-revision-date-localized):.*\n(    .*\n)*", "", config)
config = re.sub(r"(?m)^watch:\n(- .*\n)*", "", config)
Path("mkdocs.yml").write_text(config)

hook = Path("docs/.hooks/inject_version.py")
version = re.search(r"(?m)^Version: (.*)$", Path("PKG-INFO").read_text())[1]
hook.write_text(hook.read_text() + f"\n\ndef get_latest_version():\n    return {version!r}\n")
EOF
NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true mkdocs build -q -d "$OLDPWD/sites/hatch"
cd "$OLDPWD"

# Scrapy: links to other projects' docs, which Sphinx would fetch, are left out.
cd sources/scrapy-*/docs
cat >>conf.py <<'EOF'


def setup(app):
    app.connect("config-inited", lambda app, config: config.intersphinx_mapping.clear(), priority=700)
EOF
sphinx-build -Q -d ../doctrees -b html . "$OLDPWD/sites/scrapy"
