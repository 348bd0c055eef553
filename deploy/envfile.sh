# shellcheck shell=bash
# Reading `.env` for deploy.sh and compose.sh, without ever running it:
#   envfile_entries FILE   its entries as NAME=VALUE, one a line, as Compose understands them
#   envfile_load FILE      the variables that .env.example lists, where the environment does not have them already
#   envfile_export         hand on what was loaded to the programs that are started

# Besides ANAMNESIS_*. Names that steer other programs (PATH and the like) are not taken.
ENVFILE_OTHERS="TORCH_INDEX_URL CLAUDE_PROJECTS SOURCES MONGO_IMAGE MONGO_MEMORY PYTHON_IMAGE BUILD_NETWORK COMPOSE_PROJECT_NAME"
ENVFILE_LOADED=""

envfile_entries() {
  local line name value blanks
  local entry='^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=([[:space:]]*)(.*)$'
  local single="^'([^']*)'[[:space:]]*(#.*)?\$" double='^"(([^"\]|\\.)*)"[[:space:]]*(#.*)?$'
  [[ -f $1 ]] || return 0
  while IFS= read -r line || [[ -n $line ]]; do
    [[ ${line%$'\r'} =~ $entry ]] || continue
    name=${BASH_REMATCH[2]} blanks=${BASH_REMATCH[3]} value=${BASH_REMATCH[4]}
    if [[ $value =~ $single ]]; then
      value=${BASH_REMATCH[1]}
    elif [[ $value =~ $double ]]; then
      value=${BASH_REMATCH[1]}
      # shellcheck disable=SC2001 # what is found is kept in part, which a substitution of the shell cannot do
      [[ $value != *\\* ]] || value=$(sed 's/\\\([\\"$]\)/\1/g' <<<"$value")
    else # bare: a comment begins behind a blank
      value=$blanks$value
      value=${value%%[[:space:]]#*}
      value=${value#"$blanks"}
      value=${value%"${value##*[![:space:]]}"}
    fi
    printf '%s=%s\n' "$name" "$value"
  done <"$1"
}

# Of two lines for one name the last counts. Called again, it forgets what it loaded before.
envfile_load() {
  local entry name
  for name in $ENVFILE_LOADED; do unset "$name"; done
  ENVFILE_LOADED=""
  while IFS= read -r entry; do
    name=${entry%%=*}
    [[ $name =~ ^ANAMNESIS_[A-Z0-9_]+$ || " $ENVFILE_OTHERS " == *" $name "* ]] || continue
    if [[ -z ${!name+set} ]]; then
      ENVFILE_LOADED+=" $name"
    elif [[ " $ENVFILE_LOADED " != *" $name "* ]]; then
      continue
    fi
    printf -v "$name" '%s' "${entry#*=}"
  done < <(envfile_entries "$1")
}

# Not for Compose, which reads the file itself: what the environment has would hide a newer .env from it.
envfile_export() {
  local name
  for name in $ENVFILE_LOADED; do export "${name?}"; done
}
