#!/usr/bin/env bash
# The one door for people: set up, start, stop, test. './deploy.sh help' lists the verbs.
# One small function a verb; those of Docker Compose are in deploy/compose.sh.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/envfile.sh
source "$ROOT/deploy/envfile.sh"
envfile_load "$ROOT/.env"
VENV=${ANAMNESIS_VENV:-$ROOT/.venv}
case $VENV in [~]/*) VENV=$HOME/${VENV:2} ;; esac
PYTHON=$VENV/bin/python
TORCH=2.13.0
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
UV=0.13.9 # resolves the lock files; nothing that runs needs it

# shellcheck source=deploy/compose.sh
[[ ! -f $ROOT/deploy/compose.sh ]] || source "$ROOT/deploy/compose.sh"

die() {
  printf '%s\n' "$@" >&2
  exit 1
}

show_help() {
  cat <<'TEXT'
./deploy.sh VERB

On this machine, with Python alone:
  local [--detach]    set up what is missing, start everything, say where it is; Ctrl-C stops it
  setup               only the setting up
With Docker Compose and MongoDB Atlas Local:
  up [SERVICE..]      build what is missing, start everything, wait until it is ready
  start | stop        start or stop what is built; a re-embedding under way saves its checkpoint
  rebuild [SERVICE..] build again and replace what changed
  watch               build and replace as files change, for people who change the code
  cuda | rocm         the trainer on a GPU
  env pull [PROFILE]  write .env from AWS Secrets Manager
  env set KEY [-]     change one value there: it asks for the value, or reads it from standard input (-); as a
                      third word it works too, and others on this machine can see it while the command runs
Either way:
  status              what runs, and whether it is ready
  logs [SERVICE]      what the services log ('-f' follows where they run without Docker)
  down                stop everything; the data stays
For those who change the code:
  test                every test, after setting up what they need
  lock                resolve the dependencies again and write the lock files

Examples:
  ./deploy.sh local
  ANAMNESIS_DATA_DIR=/srv/anamnesis ANAMNESIS_GATEWAY_PORT=4010 ./deploy.sh local --detach
  ./deploy.sh logs memory -f
  TORCH_INDEX_URL=https://download.pytorch.org/whl/cu130 ./deploy.sh setup

Variables are listed in .env.example; they come from the environment, else from a file .env beside this script.
ANAMNESIS_VENV moves the Python environment, ANAMNESIS_PYTHON names the interpreter to make it with.
TEXT
}

# Setting up ------------------------------------------------------------------------------------

find_python() {
  local candidate
  for candidate in ${ANAMNESIS_PYTHON:-python3.13 python3.12 python3.11 python3}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s' "$candidate"
      return
    fi
  done
  die "Python 3.11 or newer is needed (found none as ${ANAMNESIS_PYTHON:-python3.13, python3.12, python3.11 or python3})." \
    "Install one, or name it: ANAMNESIS_PYTHON=/path/to/python3 ./deploy.sh ..."
}

# What an environment was made of; when this changes it is brought up to date.
fingerprint() {
  {
    cat "$ROOT/pyproject.toml" "$ROOT/$1" "${BASH_SOURCE[0]}"
    printf '%s\n' "$ROOT" "${TORCH_INDEX_URL:-}"
  } | cksum
}

# Run pip with its whole output in a file and the telling lines on the screen.
pip_install() {
  local log=$VENV/install.log
  if ! "$PYTHON" -P -m pip install --disable-pip-version-check --progress-bar off "$@" 2>&1 | tee -a "$log" |
    { grep --line-buffered -E '^ *Downloading [^ ]+\.(whl|tar\.gz)( |$)' || true; }; then
    printf 'The installation failed; the end of %s:\n' "$log" >&2
    tail -n 15 "$log" >&2
    return 1
  fi
}

have_torch() { "$PYTHON" -P -c "import importlib.metadata as m; raise SystemExit(m.version('torch').split('+')[0] != '$TORCH')" 2>/dev/null; }

reachable() { "$PYTHON" -P -c "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=10)" "$1/torch/" >/dev/null 2>&1; }

# torch is not in the lock files, because which build is right depends on the machine: the index that was asked for;
# else a build that pip finds at hand; else, on Linux, the CPU build (the default index's comes with gigabytes of CUDA).
install_torch() {
  if [[ -n ${TORCH_INDEX_URL:-} ]]; then
    echo "  torch $TORCH from $TORCH_INDEX_URL"
    pip_install --upgrade --index-url "$TORCH_INDEX_URL" "torch==$TORCH"
  elif have_torch; then
    return
  elif "$PYTHON" -P -m pip install --quiet --disable-pip-version-check --no-index --no-deps "torch==$TORCH" >/dev/null 2>&1; then
    echo "  torch $TORCH from a wheel at hand"
  elif [[ $(uname -s) != Linux ]]; then
    echo "  torch $TORCH"
    pip_install --no-deps "torch==$TORCH"
  elif reachable "$TORCH_CPU_INDEX"; then
    echo "  torch $TORCH for the CPU (about 200 MB; TORCH_INDEX_URL chooses another build)"
    pip_install --no-deps --index-url "$TORCH_CPU_INDEX" "torch==$TORCH"
  else
    echo "  torch $TORCH from the default index, as $TORCH_CPU_INDEX cannot be reached: this may be gigabytes"
    pip_install "torch==$TORCH"
  fi
}

# Bring the environment up to date with a lock file. Interrupted, it goes on where it was with the next call.
set_up() {
  local lock=$1 want python
  want=$(fingerprint "$lock")
  [[ $(cat "$VENV/fingerprint.$lock" 2>/dev/null) != "$want" ]] || return 0
  if ! "$PYTHON" -P -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making $VENV with $("$python" --version) ..."
    "$python" -P -m venv --clear "$VENV" ||
      die "The environment could not be made. On Debian and Ubuntu: apt install python3-venv"
  fi
  rm -f "$VENV"/fingerprint.*
  : >"$VENV/install.log"
  echo "Installing (the first time takes some minutes) ..."
  install_torch || return
  echo "  packages of $lock"
  pip_install --no-deps --require-hashes --requirement "$ROOT/$lock" || return
  pip_install --no-deps --no-build-isolation --editable "$ROOT" || return
  printf '%s\n' "$want" >"$VENV/fingerprint.$lock"
}

# Either lock file will do for running: the one for tests holds the other.
set_up_to_run() {
  [[ $(cat "$VENV/fingerprint.requirements-dev.lock" 2>/dev/null) == "$(fingerprint requirements-dev.lock)" ]] ||
    set_up requirements.lock
}

# Verbs -------------------------------------------------------------------------------------------

run_local() {
  set_up_to_run
  envfile_export
  exec "$PYTHON" -P -m services.local up "$@"
}

# What was set up may run: an installation that is under way, or was interrupted, has no fingerprint.
is_set_up() { [[ -x $PYTHON && -n $(ls "$VENV"/fingerprint.* 2>/dev/null) ]]; }

# A verb of the local supervisor: its exit status is this one's.
ask_local() {
  envfile_export
  "$PYTHON" -P -m services.local "$@"
}

# Whether a supervisor is there: its services may all be ready (0) or not (1).
local_runs() {
  local status=0
  is_set_up || return
  ask_local status >/dev/null 2>&1 || status=$?
  ((status <= 1))
}

with_compose() { declare -F compose_exists >/dev/null && compose_exists; }

# A verb for whichever of the two runs; where neither does, it is the local one's to say so.
either() {
  local locally=$1 composed=$2
  shift 2
  if with_compose && ! local_runs; then
    "$composed" "$@"
  elif is_set_up; then
    ask_local "$locally" "$@"
  elif [[ -d $VENV ]]; then
    echo "The setting up was interrupted: './deploy.sh setup' goes on." >&2
    return 3
  elif [[ $locally == down ]]; then
    echo "Nothing runs."
  else
    echo "Nothing is set up here yet; './deploy.sh local' does it." >&2
    return 3
  fi
}

make_locks() {
  local scratch uv leftover
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064 # the directory of this call
  trap "rm -rf '$scratch'" EXIT
  "$(find_python)" -m venv "$scratch/venv"
  "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV"
  uv=$scratch/venv/bin/uv
  # The build backend, so that installing the project itself needs nothing that has no hash.
  printf 'hatchling>=1.27\neditables>=0.5\n' >"$scratch/build.in"
  # What torch's default build drags in; another build is installed, see install_torch.
  printf '%s\n' cuda-bindings cuda-toolkit cuda-pathfinder triton nvidia-{cublas,cuda-cupti,cuda-nvrtc,cuda-runtime} \
    nvidia-{cudnn-cu13,cufft,cufile,curand,cusolver,cusparse,cusparselt-cu13,nccl-cu13,nvjitlink,nvshmem-cu13,nvtx} \
    >"$scratch/excluded"
  resolve() { # OUTPUT INPUT..: all outputs agree with requirements-dev.lock, which comes first
    local output=$1 constraints=()
    shift
    [[ $output == requirements-dev.lock ]] || constraints=(--constraints requirements-dev.lock)
    (cd "$ROOT" && "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
      --upgrade --no-emit-package torch --excludes "$scratch/excluded" "${constraints[@]}" \
      --output-file "$scratch/$output" "$@")
    if leftover=$(grep -E '^(nvidia-|cuda-|triton|torch=)' "$scratch/$output"); then
      die "These belong to torch's default build; add them to the excluded ones in deploy.sh:" "$leftover"
    fi
    {
      echo "# Made by './deploy.sh lock' from pyproject.toml; torch is installed apart (see deploy.sh)."
      cat "$scratch/$output"
    } >"$scratch/whole"
    mv "$scratch/whole" "$ROOT/$output"
    echo "  $output: $(grep -c '==' "$ROOT/$output") packages"
  }
  resolve requirements-dev.lock pyproject.toml "$scratch/build.in" --extra dev
  resolve requirements.lock pyproject.toml "$scratch/build.in" --extra local
  resolve requirements-light.lock pyproject.toml --extra ingest --extra gateway
}

# How many tests were skipped by the report that pytest wrote, if any; 'all: REASON' when no test was run.
skipped() {
  [[ -s $1 ]] || return 0
  "$PYTHON" - "$1" <<'PY'
import sys
import xml.etree.ElementTree as xml

report = xml.parse(sys.argv[1])
reasons = [" ".join(one.get("message", "").split()) for one in report.iter("skipped")]
everything = len(list(report.iter("testcase")))
print(f"all: {'; '.join(dict.fromkeys(reasons))}" if len(reasons) == everything > 0 else len(reasons) or "")
PY
}

# Every test: what is fast to fail comes first. All steps run; the summary says what failed and what was not run.
run_tests() {
  local bin=$VENV/bin failed=0 summary=() started name scratch
  set_up requirements-dev.lock
  for name in "${!ANAMNESIS_@}"; do # nobody's settings change what the tests see
    [[ $name == ANAMNESIS_TEST_* ]] || unset "$name"
  done
  cd "$ROOT"
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064 # the directory of this call
  trap "rm -rf '$scratch'" EXIT
  step() {
    local name=$1 status=0 skips
    shift
    printf '\n== %s\n' "$name"
    started=$SECONDS
    rm -f "$scratch/report"
    "$@" || status=$?
    skips=$(skipped "$scratch/report") || skips="" # a report that broke off
    if ((status != 0)); then
      summary+=("FAILED  $name ($((SECONDS - started)) s)")
      failed=1
    elif [[ $skips == all:* ]]; then
      summary+=("SKIPPED $name: ${skips#all: }")
    else
      summary+=("ok      $name ($((SECONDS - started)) s${skips:+, $skips skipped})")
    fi
  }
  tests() { "$PYTHON" -m pytest -q -rs --junitxml "$scratch/report" "$@" || (($? == 5)); } # 5: nothing of that kind to run
  "$PYTHON" -m tests.mongo_peer --fetch || printf 'No mongod for the tests: those that need one will say so.\n'
  "$PYTHON" -m tests.browser --fetch || printf 'No Chromium for the tests: those that need one will say so.\n'
  step "ruff check" "$bin/ruff" check .
  step "ruff format" "$bin/ruff" format --check .
  step "mypy" "$bin/mypy"
  step "import contracts" "$bin/lint-imports"
  step "shellcheck" "$bin/shellcheck" --external-sources deploy.sh deploy/compose.sh deploy/envfile.sh .ci/run
  step "tests" tests -m "not slow and not compose"
  step "slow tests" tests -m "slow and not compose"
  step "compose tests" tests -m compose
  printf '\n'
  printf '%s\n' "${summary[@]}"
  return "$failed"
}

main() {
  local verb=${1:-help}
  (($# == 0)) || shift
  case $verb in
    local) run_local "$@" ;;
    setup)
      set_up_to_run
      echo "Set up in $VENV"
      ;;
    test) run_tests "$@" ;;
    lock) make_locks ;;
    status) either status compose_status ;;
    logs) either logs compose_logs "$@" ;;
    down) either down compose_down "$@" ;;
    stop) either down compose_stop "$@" ;;
    up | start | rebuild | watch | cuda | rocm)
      declare -F "compose_$verb" >/dev/null || die "deploy/compose.sh is missing from this checkout."
      "compose_$verb" "$@"
      ;;
    env)
      case ${1:-} in
        pull | set) "env_$1" "${@:2}" ;;
        *) die "env pull [PROFILE] | env set KEY [-|VALUE]" ;;
      esac
      ;;
    help | --help | -h) show_help ;;
    *) die "There is no verb '$verb'; './deploy.sh help' lists them." ;;
  esac
}

# Sourced, it only defines its functions.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
