#!/usr/bin/env bash
# Prepares a Google Cloud project for Docent and starts the first revision. An
# owner of the project runs it once. Another run keeps what exists and creates
# what is missing.
set -euo pipefail
# A variable holds a secret for a moment. `bash -x` must not print it.
set +x

usage() {
  cat <<'END'
usage: deploy/setup.sh --project=ID --region=REGION [options]

  --project=ID                the Google Cloud project, with billing enabled
  --region=REGION             where Docent runs, such as us-central1
  --firestore-location=PLACE  where the rate limit's buckets are stored; default: the region
  --openai-api-key-file=FILE  file with the OpenAI API key; default: prompt for it
  --workflow-id-file=FILE     file with the workflow ID; default: prompt for it
  --dry-run                   print every command and run none

The script reads secrets from a prompt or a file, never from an argument, and
passes them to gcloud on standard input. They never appear in the process list or
in the script's output.
END
}

die() {
  echo "setup.sh: $*" >&2
  exit 1
}

project='' region='' location='' key_file='' workflow_file='' dry=false
for argument in "$@"; do
  value=${argument#*=}
  case $argument in
    --project=*) project=$value ;;
    --region=*) region=$value ;;
    --firestore-location=*) location=$value ;;
    --openai-api-key-file=*) key_file=$value ;;
    --workflow-id-file=*) workflow_file=$value ;;
    --dry-run) dry=true ;;
    -h | --help) usage && exit ;;
    # Only the option's name: its value may be a secret in the wrong place.
    --*) die "unknown option ${argument%%=*} (--help lists the options)" ;;
    *) die "unexpected argument: options start with -- (--help lists them)" ;;
  esac
done
# Both become part of commands and of service.yaml.
[[ $project =~ ^[a-z][a-z0-9-]{4,28}[a-z0-9]$ ]] || die "--project must be the ID of a Google Cloud project (see --help)"
[[ $region =~ ^[a-z]+-[a-z]+[0-9]+$ ]] || die "--region must be a region such as us-central1 (see --help)"
location=${location:-$region}
# The files are read later, from another directory.
[[ -z $key_file || $key_file = /* ]] || key_file=$PWD/$key_file
[[ -z $workflow_file || $workflow_file = /* ]] || workflow_file=$PWD/$workflow_file
for file in "$key_file" "$workflow_file"; do
  [[ -z $file || -r $file ]] || die "$file cannot be read"
done

service=docent
repository=docent
runtime=docent-run@$project.iam.gserviceaccount.com
builder=docent-build@$project.iam.gserviceaccount.com
bucket=gs://$project-docent-source
image=$region-docker.pkg.dev/$project/$repository/docent:first
root=$(cd "$(dirname "$0")/.." && pwd)

# The commands name files relative to the repository's root.
cd "$root"
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

# under_way explains why a command was refused and lets the script go on. A change
# takes minutes, and Firestore refuses it again while it is still in progress from
# an earlier run. The check job shows the result.
under_way() { echo "  refused, which is fine if an earlier run's change is still in progress" >&2; }

step() { printf '\n# %s\n' "$*"; }

# show prints a command as a user would type it.
show() {
  local word line=''
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=@,+-]*) line+=" '${word//\'/\'\\\'\'}'" ;;
      *) line+=" $word" ;;
    esac
  done
  line=${line# }
  # The directory's name differs in every run.
  printf '%s' "${line//$rendered/RENDERED}"
}

run() {
  show "$@" && echo
  $dry || "$@"
}

# run_once runs the command after -- unless the command before -- succeeds.
run_once() {
  local test=()
  while [[ $1 != -- ]]; do
    test+=("$1")
    shift
  done
  shift
  show "${test[@]}" && printf ' ||\n  ' && show "$@" && echo
  $dry || "${test[@]}" >/dev/null 2>&1 || "$@"
}

# grant runs a command that names an account, and retries it: other parts of
# Google Cloud may not know the account in the first seconds after its creation.
grant() {
  show "$@" && echo
  if $dry; then return; fi
  for _ in 1 2 3 4; do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 5
  done
  "$@" >/dev/null
}

# store adds a secret's first version, unless the secret has one. To rotate a
# secret, use `gcloud secrets versions add`. The identity key must never change.
store() { # NAME VERSION COMMAND...
  local name=$1 version=$2
  shift 2
  run_once gcloud secrets describe "$name" --project="$project" -- \
    gcloud secrets create "$name" --replication-policy=automatic --project="$project"
  local test=(gcloud secrets versions describe "$version" --secret="$name" --project="$project")
  local add=(gcloud secrets versions add "$name" --data-file=- --project="$project")
  show "${test[@]}" && printf ' ||\n  ' && show "$@" && printf ' | ' && show "${add[@]}" && echo
  if $dry || "${test[@]}" >/dev/null 2>&1; then return; fi
  local value
  value=$("$@")
  [[ -n $value ]] || die "the value of $name is empty"
  # printf is a shell builtin, so no process has the value among its arguments.
  printf '%s' "$value" | "${add[@]}" >/dev/null
}

# given prints the value from a file, or prompts the user for it.
given() { # WHAT FILE
  if [[ -n $2 ]]; then
    cat -- "$2"
    return
  fi
  [[ -t 0 ]] || die "cannot prompt for the $1 without a terminal: name a file (see --help)"
  local value
  read -r -s -p "$1: " value
  echo >&2
  printf '%s' "$value"
}

random_key() { head -c 32 /dev/urandom | base64; }

# render replaces the placeholders in service.yaml.
render() { sed -e "s/PROJECT_ID/$project/g" -e "s|image: IMAGE|image: $image|" service.yaml >"$rendered/service.yaml"; }

step 'Enable the Google Cloud APIs that Docent uses'
run gcloud services enable artifactregistry.googleapis.com cloudbuild.googleapis.com firestore.googleapis.com \
  iam.googleapis.com logging.googleapis.com monitoring.googleapis.com run.googleapis.com secretmanager.googleapis.com \
  --project="$project"

step 'Create the service accounts: docent-run runs Docent, docent-build builds and deploys it'
run_once gcloud iam service-accounts describe "$runtime" --project="$project" -- \
  gcloud iam service-accounts create docent-run --display-name='Docent, running' --project="$project"
run_once gcloud iam service-accounts describe "$builder" --project="$project" -- \
  gcloud iam service-accounts create docent-build --display-name='Docent, building' --project="$project"

step 'Create the image repository, and the bucket for the sources of a build'
run_once gcloud artifacts repositories describe "$repository" --location="$region" --project="$project" -- \
  gcloud artifacts repositories create "$repository" --repository-format=docker --location="$region" --project="$project"
run_once gcloud storage buckets describe "$bucket" --project="$project" -- \
  gcloud storage buckets create "$bucket" --location="$region" --uniform-bucket-level-access --public-access-prevention --project="$project"

step 'Let docent-build read sources, push images, write logs and deploy revisions that run as docent-run'
grant gcloud storage buckets add-iam-policy-binding "$bucket" --member="serviceAccount:$builder" --role=roles/storage.objectViewer
grant gcloud artifacts repositories add-iam-policy-binding "$repository" --member="serviceAccount:$builder" --role=roles/artifactregistry.writer \
  --location="$region" --project="$project"
grant gcloud iam service-accounts add-iam-policy-binding "$runtime" --member="serviceAccount:$builder" --role=roles/iam.serviceAccountUser --project="$project"
for role in roles/logging.logWriter roles/run.developer; do
  grant gcloud projects add-iam-policy-binding "$project" --member="serviceAccount:$builder" --role="$role" --condition=None
done

step 'Create the secrets. The API key and the workflow ID come from a prompt or a file and go to gcloud on standard input'
store openai-api-key latest given 'OpenAI API key' "$key_file"
store chatkit-workflow-id latest given 'ChatKit workflow ID' "$workflow_file"
store docent-identity-key 1 random_key

step 'Create the Firestore database, without indexes that no query uses, and let it delete expired buckets'
run_once gcloud firestore databases describe '--database=(default)' --project="$project" -- \
  gcloud firestore databases create '--database=(default)' --location="$location" --type=firestore-native --project="$project"
for field in count expires_at; do
  run gcloud firestore indexes fields update "$field" --collection-group=rate_limits '--database=(default)' --disable-indexes --project="$project" --quiet || under_way
done
# This takes minutes to take effect, and nothing here waits for it.
run gcloud firestore fields ttls update expires_at --collection-group=rate_limits '--database=(default)' --enable-ttl --async --project="$project" --quiet || under_way

step 'Let docent-run use Firestore and read these three secrets, nothing else'
grant gcloud projects add-iam-policy-binding "$project" --member="serviceAccount:$runtime" --role=roles/datastore.user --condition=None
for secret in openai-api-key chatkit-workflow-id docent-identity-key; do
  grant gcloud secrets add-iam-policy-binding "$secret" --member="serviceAccount:$runtime" --role=roles/secretmanager.secretAccessor --project="$project"
done

step 'Build the first image. New roles take minutes to apply everywhere: if this is refused, run the script again'
run_once gcloud artifacts docker images describe "$image" --project="$project" -- \
  gcloud builds submit . --config=deploy/image.yaml --substitutions="_IMAGE=$image" --region="$region" \
  --gcs-source-staging-dir="$bucket/source" --project="$project"

step 'Create and run the check job, which tries every dependency as docent-run'
echo "deploy/env.sh $project <service.yaml >RENDERED/env.yaml"
$dry || deploy/env.sh "$project" <service.yaml >"$rendered/env.yaml"
job=("$service-check" --args=check --service-account="$runtime" --env-vars-file="$rendered/env.yaml"
  --max-retries=0 --task-timeout=60s --region="$region" --project="$project")
# An existing job gets these settings, too, but keeps the image of the last build.
run_once gcloud run jobs describe "$service-check" --region="$region" --project="$project" -- \
  gcloud run jobs create "${job[@]}" --image="$image"
run gcloud run jobs update "${job[@]}"
run gcloud run jobs execute "$service-check" --wait --region="$region" --project="$project" ||
  die "the check failed. Read its report, fix what it names, and run this script again:
  gcloud logging read 'resource.type=\"cloud_run_job\" resource.labels.job_name=\"$service-check\"' --freshness=10m --order=asc --format='value(textPayload)' --project=$project"

step "Create the service with its first revision and the public access that service.yaml asks for"
echo "sed -e s/PROJECT_ID/$project/g -e 's|image: IMAGE|image: $image|' service.yaml >RENDERED/service.yaml"
$dry || render
# A service exists even if its first revision never became ready. So check that
# one did.
ready=(gcloud run services describe "$service" --region="$region" --project="$project" '--format=value(status.latestReadyRevisionName)')
replace=(gcloud run services replace "$rendered/service.yaml" --region="$region" --project="$project")
show "${ready[@]}" && printf ' | grep -q . ||\n  ' && show "${replace[@]}" && echo
$dry || "${ready[@]}" 2>/dev/null | grep . >/dev/null || "${replace[@]}"
run gcloud run services describe "$service" --region="$region" --project="$project" '--format=value(status.url)'
