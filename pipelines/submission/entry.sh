# Runs `python -m jobs` with the Python of the cluster that this job belongs to, and on that cluster.
#
# An entry point has the PATH of the head node, where `python` may be another one, or none; and the
# RAY_ADDRESS that it is given is that of the Ray which this machine started last. Above it is the
# raylet of its own cluster, whose command line names both.

words_of() {
    tr '\0' '\n' < "/proc/$1/cmdline" 2> /dev/null
}

named_by() {
    # A name with a space in it stands in quotes.
    words_of "$1" | sed -n \
        -e 's/^--python_worker_command="\([^"]*\)".*/\1/p' -e t \
        -e 's/^--python_worker_command=\([^ ]*\).*/\1/p'
}

parent_of() {
    sed -n 's/^PPid:[[:space:]]*//p' "/proc/$1/status" 2> /dev/null
}

python=
process=$PPID
while [ -z "$python" ] && [ "${process:-0}" -gt 1 ]; do
    python=$(named_by "$process")
    address=$(words_of "$process" | sed -n 's/^--gcs-address=//p')
    process=$(parent_of "$process")
done
if [ ! -x "$python" ]; then
    python=$(command -v python3 || command -v python)
    if [ -z "$python" ]; then
        echo "tandem: no Python was found; put that of the cluster on the PATH of its nodes." >&2
        exit 1
    fi
    echo "tandem: what the cluster runs on could not be told; $python is used." >&2
elif [ -n "$address" ]; then
    export RAY_ADDRESS="$address"
fi
exec "$python" -m jobs "$@"
