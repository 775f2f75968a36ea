#!/usr/bin/env bash
# Makes a Google Cloud project ready for Docent and starts its first revision.
# An owner of the project runs it once. Run again, it leaves alone what is there
# and mends what is missing.
set -euo pipefail
# A secret is in a variable for a moment: `bash -x` must not show it.
set +x

usage() {
  cat <<'END'
usage: deploy/setup.sh --project=ID --region=REGION [options]

  --project=ID                the Google Cloud project, with billing enabled
  --region=REGION             where Docent runs, such as us-central1
  --firestore-location=PLACE  where buckets live; default: the region
  --openai-api-key-file=FILE  where the key is; default: ask
  --workflow-id-file=FILE     where the workflow's ID is; default: ask
  --dry-run                   print every command, run none

A secret is read from a prompt or a file, never from an argument, and given to
gcloud by its standard input: neither the list of processes nor this script's
output ever has it.
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
    # The option's name alone: the rest may be a secret, put in the wrong place.
    --*) die "there is no option ${argument%%=*} (--help lists them)" ;;
    *) die "the options begin with -- (--help lists them)" ;;
  esac
done
# They become part of commands and of service.yaml.
[[ $project =~ ^[a-z][a-z0-9-]{4,28}[a-z0-9]$ ]] || die "--project must be the ID of a Google Cloud project (--help says more)"
[[ $region =~ ^[a-z]+-[a-z]+[0-9]+$ ]] || die "--region must be a region such as us-central1 (--help says more)"
location=${location:-$region}
# Read later, in another directory.
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

# The commands name files of the repository as one types them in its root.
cd "$root"
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

# under_way excuses a command that is refused while the one of the run before is
# still being carried out, which takes minutes. The check looks at what came of it.
under_way() { echo "  that was refused: if it is still under way from an earlier run, all is well" >&2; }

step() { printf '\n# %s\n' "$*"; }

# show prints a command as one would type it.
show() {
  local word line=''
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=@,+-]*) line+=" '${word//\'/\'\\\'\'}'" ;;
      *) line+=" $word" ;;
    esac
  done
  line=${line# }
  # The directory's name is another at every run.
  printf '%s' "${line//$rendered/RENDERED}"
}

run() {
  show "$@" && echo
  $dry || "$@"
}

# run_once runs the command after -- unless the one before it succeeds.
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

# grant runs a command that names an account, which other parts of Google Cloud
# may not know in the first seconds after its creation.
grant() {
  show "$@" && echo
  if $dry; then return; fi
  for _ in 1 2 3 4; do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 5
  done
  "$@" >/dev/null
}

# store adds a secret's first version. An existing one is left alone: rotating
# is `gcloud secrets versions add`, and the identity key must never change.
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
  # printf is the shell's own, so no process has the value among its arguments.
  printf '%s' "$value" | "${add[@]}" >/dev/null
}

# given prints a value that is in a file, or that the person at the terminal types.
given() { # WHAT FILE
  if [[ -n $2 ]]; then
    cat -- "$2"
    return
  fi
  [[ -t 0 ]] || die "there is no terminal to ask for $1: name a file (--help says how)"
  local value
  read -r -s -p "$1: " value
  echo >&2
  printf '%s' "$value"
}

random_key() { head -c 32 /dev/urandom | base64; }

# render fills in service.yaml's placeholders.
render() { sed -e "s/PROJECT_ID/$project/g" -e "s|image: IMAGE|image: $image|" service.yaml >"$rendered/service.yaml"; }

step 'The services that Docent uses'
run gcloud services enable artifactregistry.googleapis.com cloudbuild.googleapis.com firestore.googleapis.com \
  iam.googleapis.com logging.googleapis.com monitoring.googleapis.com run.googleapis.com secretmanager.googleapis.com \
  --project="$project"

step 'The accounts: what Docent runs as, and what builds it'
run_once gcloud iam service-accounts describe "$runtime" --project="$project" -- \
  gcloud iam service-accounts create docent-run --display-name='Docent, running' --project="$project"
run_once gcloud iam service-accounts describe "$builder" --project="$project" -- \
  gcloud iam service-accounts create docent-build --display-name='Docent, building' --project="$project"

step 'Artifact Registry, and a bucket through which sources get to a build'
run_once gcloud artifacts repositories describe "$repository" --location="$region" --project="$project" -- \
  gcloud artifacts repositories create "$repository" --repository-format=docker --location="$region" --project="$project"
run_once gcloud storage buckets describe "$bucket" --project="$project" -- \
  gcloud storage buckets create "$bucket" --location="$region" --uniform-bucket-level-access --public-access-prevention --project="$project"

step 'What builds it may read sources, push images, write logs and deploy revisions that run as the other'
grant gcloud storage buckets add-iam-policy-binding "$bucket" --member="serviceAccount:$builder" --role=roles/storage.objectViewer
grant gcloud artifacts repositories add-iam-policy-binding "$repository" --member="serviceAccount:$builder" --role=roles/artifactregistry.writer \
  --location="$region" --project="$project"
grant gcloud iam service-accounts add-iam-policy-binding "$runtime" --member="serviceAccount:$builder" --role=roles/iam.serviceAccountUser --project="$project"
for role in roles/logging.logWriter roles/run.developer; do
  grant gcloud projects add-iam-policy-binding "$project" --member="serviceAccount:$builder" --role="$role" --condition=None
done

step 'The secrets. What is given is asked for or in a file, and goes to gcloud by standard input'
store openai-api-key latest given 'OpenAI API key' "$key_file"
store chatkit-workflow-id latest given 'ChatKit workflow ID' "$workflow_file"
store docent-identity-key 1 random_key

step 'Firestore: a database, no indexes on what nobody searches for, deletion of old buckets'
run_once gcloud firestore databases describe '--database=(default)' --project="$project" -- \
  gcloud firestore databases create '--database=(default)' --location="$location" --type=firestore-native --project="$project"
for field in count expires_at; do
  run gcloud firestore indexes fields update "$field" --collection-group=rate_limits '--database=(default)' --disable-indexes --project="$project" --quiet || under_way
done
# It takes minutes to take effect, and nothing here waits for it.
run gcloud firestore fields ttls update expires_at --collection-group=rate_limits '--database=(default)' --enable-ttl --async --project="$project" --quiet || under_way

step 'What it runs as may use Firestore and read these three secrets, nothing else'
grant gcloud projects add-iam-policy-binding "$project" --member="serviceAccount:$runtime" --role=roles/datastore.user --condition=None
for secret in openai-api-key chatkit-workflow-id docent-identity-key; do
  grant gcloud secrets add-iam-policy-binding "$secret" --member="serviceAccount:$runtime" --role=roles/secretmanager.secretAccessor --project="$project"
done

step 'The first image. Roles take minutes to arrive everywhere: if this is refused, run the script again'
run_once gcloud artifacts docker images describe "$image" --project="$project" -- \
  gcloud builds submit . --config=deploy/image.yaml --substitutions="_IMAGE=$image" --region="$region" \
  --gcs-source-staging-dir="$bucket/source" --project="$project"

step 'The check job: it tries every dependency as the account that Docent runs as'
echo "deploy/env.sh $project <service.yaml >RENDERED/env.yaml"
$dry || deploy/env.sh "$project" <service.yaml >"$rendered/env.yaml"
job=("$service-check" --args=check --service-account="$runtime" --env-vars-file="$rendered/env.yaml"
  --max-retries=0 --task-timeout=60s --region="$region" --project="$project")
# A job that exists gets these settings, too, but keeps its image: that of the
# last build.
run_once gcloud run jobs describe "$service-check" --region="$region" --project="$project" -- \
  gcloud run jobs create "${job[@]}" --image="$image"
run gcloud run jobs update "${job[@]}"
run gcloud run jobs execute "$service-check" --wait --region="$region" --project="$project" ||
  die "the check failed. Its report says what to do; mend that and run this again:
  gcloud logging read 'resource.type=\"cloud_run_job\" resource.labels.job_name=\"$service-check\"' --freshness=10m --order=asc --format='value(textPayload)' --project=$project"

step "The service's first revision, and the public access that service.yaml asks for"
echo "sed -e s/PROJECT_ID/$project/g -e 's|image: IMAGE|image: $image|' service.yaml >RENDERED/service.yaml"
$dry || render
# A service whose first revision never became ready exists, too.
ready=(gcloud run services describe "$service" --region="$region" --project="$project" '--format=value(status.latestReadyRevisionName)')
replace=(gcloud run services replace "$rendered/service.yaml" --region="$region" --project="$project")
show "${ready[@]}" && printf ' | grep -q . ||\n  ' && show "${replace[@]}" && echo
$dry || "${ready[@]}" 2>/dev/null | grep . >/dev/null || "${replace[@]}"
run gcloud run services describe "$service" --region="$region" --project="$project" '--format=value(status.url)'
