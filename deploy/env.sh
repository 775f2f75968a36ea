#!/usr/bin/env bash
# Prints the environment of a service's manifest as gcloud's --env-vars-file
# wants it, so that service and check job are configured in one place:
#
#     deploy/env.sh PROJECT < service.yaml
#
# A variable is two lines there, a name in capitals and a value in quotes, which
# a test holds.
set -euo pipefail

project=${1:?usage: deploy/env.sh PROJECT < service.yaml}

awk '
  $1 == "-" && $2 == "name:" && $3 ~ /^[A-Z][A-Z0-9_]*$/ { name = $3; next }
  name != "" && $1 == "value:" { sub(/^ *value: */, ""); print name ": " $0; name = "" }
' | sed "s/PROJECT_ID/$project/g"
