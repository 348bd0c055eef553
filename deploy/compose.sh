# shellcheck shell=bash disable=SC2119,SC2120 # the arguments of env_pull are deploy.sh's
# Docker Compose, for deploy.sh, which sources this file and envfile.sh, loads .env, and calls one function a verb:
#   compose_up [SERVICE..]        pull settings, make .env, build, start, wait until everything is ready, say where it is
#   compose_start [SERVICE..]     the same without building
#   compose_stop [SERVICE..]      stop; a re-embedding under way saves its checkpoint first
#   compose_rebuild [SERVICE..]   build again and replace what changed
#   compose_down [ARGUMENT..]     stop and remove containers and networks; the data stays (unless --volumes is given)
#   compose_status, compose_logs [SERVICE..], compose_watch, compose_exists
#   compose_cuda, compose_rocm    the GPU trainer, which this release does not have
#   env_pull [PROFILE], env_set KEY [-|VALUE]   settings in AWS Secrets Manager
# It changes no shell option.

COMPOSE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
COMPOSE_ENV=$COMPOSE_ROOT/.env

# What this machine's settings add to docker-compose.yml; made anew by every start, and not there where they add nothing.
COMPOSE_OVERRIDE=$COMPOSE_ROOT/data/compose.ingest.yml

compose() {
  local files=(--file "$COMPOSE_ROOT/docker-compose.yml")
  [[ ! -f $COMPOSE_OVERRIDE ]] || files+=(--file "$COMPOSE_OVERRIDE")
  docker compose --project-directory "$COMPOSE_ROOT" "${files[@]}" "$@"
}

compose_die() {
  printf '%s\n' "$@" >&2
  return 1
}

# One value of .env, whatever the environment has; nothing when it is not set.
compose_value() {
  local entry value=""
  while IFS= read -r entry; do
    [[ $entry != "$1="* ]] || value=${entry#*=}
  done < <(envfile_entries "$COMPOSE_ENV")
  printf '%s' "$value"
}

compose_require() {
  command -v docker >/dev/null 2>&1 ||
    compose_die "Docker is not installed. See https://docs.docker.com/engine/install/, or use './deploy.sh local', which needs only Python." || return
  docker compose version >/dev/null 2>&1 ||
    compose_die "Docker has no Compose plugin. See https://docs.docker.com/compose/install/" || return
  docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
    compose_die "The Docker engine does not answer: start it, or make sure that you may use it (group 'docker')." || return
}

# As many processors as the engine has, which need not be this machine's (Docker Desktop, a DOCKER_HOST elsewhere), and
# for this call only, as they may be others next time. It refuses containers that may use more.
compose_cpus() {
  local count
  [[ -z ${ANAMNESIS_CPUS:-$(compose_value ANAMNESIS_CPUS)} ]] || return 0
  count=$(docker info --format '{{.NCPU}}' 2>/dev/null) || return 0
  [[ ! $count =~ ^[1-9][0-9]*$ ]] || export ANAMNESIS_CPUS=$count
}

compose_random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# Make .env, or add what it lacks: keys given by the environment, else made here and shown once.
compose_prepare() {
  local name value made=()
  (umask 077 && touch "$COMPOSE_ENV") || return
  if [[ $(ls -ldL "$COMPOSE_ENV") != -rw-------* ]]; then
    chmod 600 "$COMPOSE_ENV" || return
    echo ".env was readable by others; it is mode 600 now. Consider new keys."
  fi
  if [[ -s $COMPOSE_ENV && -n $(tail -c 1 "$COMPOSE_ENV") ]]; then echo >>"$COMPOSE_ENV"; fi
  for name in ANAMNESIS_API_KEY ANAMNESIS_SERVICE_KEY ANAMNESIS_MONGODB_PASSWORD; do
    [[ -z $(compose_value "$name") ]] || continue
    value=${!name:-}
    if [[ -z $value ]]; then
      value=$(compose_random)
      [[ $name == ANAMNESIS_MONGODB_PASSWORD ]] || value=anm_$value
      made+=("$name")
    elif [[ ! $value =~ ^[A-Za-z0-9_.~-]{16,200}$ ]]; then
      compose_die "$name: expected 16 to 200 letters, digits or any of _ . ~ -" || return
    fi
    printf '%s=%s\n' "$name" "$value" >>"$COMPOSE_ENV" || return
  done
  # Transcripts can be read by their owner alone, so ingest runs as that person. Root's stay closed to it.
  if [[ -z $(compose_value ANAMNESIS_UID) && $(id -u) -ne 0 ]]; then
    printf 'ANAMNESIS_UID=%s\nANAMNESIS_GID=%s\n' "$(id -u)" "$(id -g)" >>"$COMPOSE_ENV" || return
  fi
  # Part of every episode from here: the name that the `anamnesis` command on this machine uses too.
  if [[ -z $(compose_value ANAMNESIS_INGEST_INSTANCE) && $(uname -n) =~ ^[A-Za-z0-9._-]+$ ]]; then
    printf 'ANAMNESIS_INGEST_INSTANCE=%s\n' "$(uname -n)" >>"$COMPOSE_ENV" || return
  fi
  if ((${#made[@]})); then echo "Made in .env (mode 600): ${made[*]}"; fi
  if [[ " ${made[*]:-} " == *" ANAMNESIS_API_KEY "* ]]; then
    printf 'Your API key, shown this once:\n  %s\n' "$(compose_value ANAMNESIS_API_KEY)"
  fi
}

# Docker would make a missing directory as root.
compose_sources() {
  local sources=${CLAUDE_PROJECTS:-$HOME/.claude/projects}
  mkdir -p "${sources/#\~/$HOME}" && compose_override
}

# A value within single quotes of YAML, where Compose leaves it as it is.
compose_quote() {
  local value=${1//\'/\'\'}
  printf "'%s'" "${value//\$/\$\$}"
}

# Whether ingest may be given a directory of this machine: what is wrong with it, and what to do.
compose_mountable() {
  local path=$1 real
  [[ $path == /* ]] || compose_die "SOURCES: '$path' is not absolute; a directory begins with / (or ~/)." || return
  [[ $path != *:* ]] || compose_die "SOURCES: '$path' has a colon, which stands between two parts of a mount; rename it." || return
  [[ /$path/ != */../* && /$path/ != */./* ]] || compose_die "SOURCES: '$path' has a part '.' or '..'; write where it leads." || return
  [[ -d $path ]] || compose_die "SOURCES: there is no directory '$path'; make it, or take it out of the list." || return
  real=$(cd -P -- "$path" 2>/dev/null && pwd -P) ||
    compose_die "SOURCES: '$path' may not be entered by you; ingest, which runs as you, could not read it either." || return
  case $path/ in
    //* | /app/* | /bin/* | /data/* | /etc/* | /lib/* | /lib32/* | /lib64/* | /sbin/* | /sources/* | /usr/* | /tmp/ | /var/ | /opt/)
      compose_die "SOURCES: '$path' is a place where a container has something of its own; name a directory within it, or a link elsewhere." || return
      ;;
  esac
  case $real/ in
    // | /proc/* | /sys/* | /dev/* | /run/* | /boot/* | /var/run/* | /var/lib/docker/* | /private/var/run/*)
      compose_die "SOURCES: '$path' belongs to the system, and is not mounted into a container." || return
      ;;
  esac
  [[ ! -S $real/docker.sock ]] ||
    compose_die "SOURCES: '$path' holds the engine's socket, with which everything on this machine can be changed." || return
}

# The directories that ingest crawls, each read-only and at its own path, so that episodes name files as people do; and
# a way out for it where documents may be fetched from hosts. Nothing of this is in docker-compose.yml, which has none.
compose_override() {
  local path paths=() given=()
  if [[ ${SOURCES:-} == *[[:cntrl:]]* ]]; then
    compose_die "SOURCES: there is a character in it that cannot be seen; write directories with commas between them." || return
  fi
  IFS=, read -r -a given <<<"${SOURCES:-}"
  for path in ${given[@]+"${given[@]}"}; do
    path=${path#"${path%%[![:space:]]*}"} path=${path%"${path##*[![:space:]]}"}
    [[ -n $path ]] || continue
    path=${path/#\~\//$HOME/}
    while [[ $path == *//* ]]; do path=${path//\/\//\/}; done
    [[ $path == / ]] || path=${path%/}
    compose_mountable "$path" || return
    [[ ",$(IFS=,; printf '%s' "${paths[*]-}")," == *",$path,"* ]] || paths+=("$path")
  done
  if ((${#paths[@]} == 0)) && [[ -z ${ANAMNESIS_URL_HOSTS:-} ]]; then
    rm -f "$COMPOSE_OVERRIDE"
    return
  fi
  mkdir -p "${COMPOSE_OVERRIDE%/*}" || return
  (
    umask 077
    {
      echo "# Made by './deploy.sh up' from SOURCES and ANAMNESIS_URL_HOSTS; what is written here by hand is lost."
      echo "services:"
      echo "  ingest:"
      if ((${#paths[@]})); then
        printf '    environment:\n      ANAMNESIS_SOURCES: %s\n' "$(compose_quote "$(IFS=,; printf '/sources,%s' "${paths[*]}")")"
        echo "    volumes:"
        for path in "${paths[@]}"; do
          path=$(compose_quote "$path")
          printf '      - {type: bind, source: %s, target: %s, read_only: true, bind: {create_host_path: false}}\n' "$path" "$path"
        done
      fi
      [[ -z ${ANAMNESIS_URL_HOSTS:-} ]] || echo "    networks: [outside]"
    } >"$COMPOSE_OVERRIDE.new"
  ) && mv -f "$COMPOSE_OVERRIDE.new" "$COMPOSE_OVERRIDE"
}

compose_settings() {
  if [[ -n ${ANAMNESIS_SECRETS_NAME:-} ]]; then
    env_pull || compose_die "Nothing was started, because the settings could not be pulled. Unset ANAMNESIS_SECRETS_NAME to start with .env as it is." || return
    envfile_load "$COMPOSE_ENV"
  fi
  compose_prepare && compose_sources
}

# What memory says that it waits for; nothing when it says nothing.
compose_reason() {
  compose exec -T memory python -c '
import json, urllib.error, urllib.request
try:
    urllib.request.urlopen("http://127.0.0.1:3012/ready", timeout=4)
except urllib.error.HTTPError as error:
    print(json.load(error)["error"]["message"])
' 2>/dev/null || true
}

# Start and wait. A large embedding model takes longer to be fetched than one waits for anything else: as long as more
# of it comes, wait on. When something does not get ready, show which and its last lines, instead of a bare exit code.
compose_run() {
  local reason said=
  compose_cpus
  until compose up --detach --no-build --wait --wait-timeout "${ANAMNESIS_WAIT:-300}" "$@"; do
    reason=$(compose_reason)
    if [[ $reason != *"is being fetched ("* || $reason == "$said" ]]; then
      compose_unready "$reason"
      return 1
    fi
    said=$reason
    echo "Not ready yet: $reason"
  done
}

compose_unready() {
  local name
  echo "Not everything became ready${1:+: $1}" >&2
  compose ps --all >&2
  for name in $(compose ps --all --format '{{.Service}} {{.State}} {{.Health}}' | awk '!/ (running healthy|created )$/ {print $1}' | sort -u); do
    printf '\nThe last lines of %s:\n' "$name" >&2
    compose logs --no-log-prefix --tail 20 "$name" >&2
  done
}

# The path of a link that logs a browser in, once; nothing when the gateway gives none.
compose_link() {
  compose exec -T gateway python -c '
import json, os, urllib.request
asked = urllib.request.Request(
    "http://127.0.0.1:3010/api/login-links",
    method="POST",
    headers={"Authorization": "Bearer " + os.environ["ANAMNESIS_SERVICE_KEY"]},
)
print(json.load(urllib.request.urlopen(asked, timeout=5))["path"])
' 2>/dev/null || true
}

compose_where() {
  local bind=${ANAMNESIS_BIND:-127.0.0.1} port=${ANAMNESIS_GATEWAY_PORT:-3010} command address link
  [[ $bind != 0.0.0.0 ]] || bind=127.0.0.1
  address=http://$bind:$port
  command=${VENV:-$COMPOSE_ROOT/.venv}/bin/anamnesis
  command=$(printf %q "${command#"$PWD/"}")
  [[ $address == http://127.0.0.1:3010 ]] || command="ANAMNESIS_URL=$address $command"
  cat <<TEXT

Anamnesis is ready.
  gateway    $address   (key: ANAMNESIS_API_KEY in .env)
  database   127.0.0.1:${ANAMNESIS_MONGODB_PORT:-5438}, user anamnesis   (password: ANAMNESIS_MONGODB_PASSWORD in .env)
  data       in the volumes ${COMPOSE_PROJECT_NAME:-anamnesis}_*; './deploy.sh down' leaves them
Try:
  ./deploy.sh setup    # once: makes the command on this machine
  $command ingest ~/.claude/projects
  $command recall "how did we fix the flaky upload test?"
TEXT
  link=$(compose_link)
  if [[ $link == /login\?token=* ]]; then
    printf '\nOpen %s\n  (the link works once; %s makes another)\n' "$address$link" "'$command login'"
  else
    printf '\nOpen %s\n  (%s makes a link that logs you in)\n' "$address" "'$command login'"
  fi
}

compose_up() {
  compose_require && compose_settings || return
  echo "Building the images; the first time takes minutes ..."
  compose build || return
  compose_run "$@" && compose_where
}

compose_start() {
  compose_require && compose_settings || return
  compose_run "$@" && compose_where
}

compose_rebuild() {
  compose_require && compose_prepare && compose_sources || return
  compose build "$@" && compose_run "$@" && compose_where
}

# The verbs below act on what is there: without .env nothing was ever started here, and they make none.
compose_present() {
  compose_require || return
  [[ -f $COMPOSE_ENV ]] || compose_die "There is no .env here: './deploy.sh up' has not been run in this directory."
}

compose_stop() { compose_present && compose stop "$@"; }
compose_down() { compose_present && compose down --remove-orphans "$@"; }
compose_logs() { compose_present && compose logs --follow --tail 200 "$@"; }
compose_watch() { compose_present && compose_cpus && compose watch "$@"; }
compose_status() { compose_present && compose ps --all --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'; }

# Whether there are containers of this project, running or stopped; quiet, also where there is no Docker.
compose_exists() {
  command -v docker >/dev/null 2>&1 &&
    [[ -n $(docker ps --all --quiet --filter label="com.docker.compose.project=${COMPOSE_PROJECT_NAME:-anamnesis}" 2>/dev/null) ]]
}

compose_cuda() { compose_die "The trainer on NVIDIA GPUs is not part of this release; './deploy.sh up' starts everything else."; }
compose_rocm() { compose_die "The trainer on AMD GPUs is not part of this release; './deploy.sh up' starts everything else."; }

# The Python that has boto3: the project's own environment, or a small one made for this.
env_python() {
  local python
  for python in "${VENV:-$COMPOSE_ROOT/.venv}/bin/python" "$COMPOSE_ROOT/.venv-aws/bin/python"; do
    if [[ -x $python ]] && "$python" -c 'import boto3' 2>/dev/null; then
      printf '%s' "$python"
      return
    fi
  done
  echo "Installing boto3 into .venv-aws, for AWS Secrets Manager ..." >&2
  python3 -m venv "$COMPOSE_ROOT/.venv-aws" >&2 &&
    "$COMPOSE_ROOT/.venv-aws/bin/pip" install --quiet --disable-pip-version-check 'boto3>=1.38' >&2 ||
    compose_die "boto3 could not be installed; it is needed for AWS Secrets Manager." || return
  printf '%s' "$COMPOSE_ROOT/.venv-aws/bin/python"
}

env_run() {
  local python
  python=$(env_python) || return
  (cd "$COMPOSE_ROOT" && ANAMNESIS_SECRETS_NAME=${ANAMNESIS_SECRETS_NAME:-} "$python" -m deploy.env "$@")
}

env_pull() { env_run pull "$@"; }
env_set() { env_run set "$@"; }
