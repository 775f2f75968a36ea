#!/usr/bin/env bash
# Prints the environment of a service manifest in the format of gcloud's
# --env-vars-file, so that the service and the check job are configured in one
# place:
#
#     deploy/env.sh PROJECT < service.yaml
#
# In the manifest a variable is two lines: a name in capitals and a value in
# quotes. A test checks this.
set -euo pipefail

project=${1:?usage: deploy/env.sh PROJECT < service.yaml}

awk '
  $1 == "-" && $2 == "name:" && $3 ~ /^[A-Z][A-Z0-9_]*$/ { name = $3; next }
  name != "" && $1 == "value:" { sub(/^ *value: */, ""); print name ": " $0; name = "" }
' | sed "s/PROJECT_ID/$project/g"
