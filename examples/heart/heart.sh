#!/bin/sh
# Five hospitals train one model on their own tables, each a process of its own; a sixth that took no part uses it.
#
#     sh examples/heart/heart.sh [FOLDER] [ROUNDS]
#
# Every line is one that a hospital's person types. What only this machine needs, five homes side by side, is marked.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-heart-example} rounds=${2:-8}
mkdir "$folder"
cd "$folder"

# Only here: the records of five hospitals, dealt from one package (or made up, where it is not installed).
python "$here/records.py" .

# Each hospital makes its identity, and hands its card to the others.
for site in cleveland-1 cleveland-2 hungary switzerland long-beach; do
    p2pfl init --name $site --listen "127.0.0.1:$(cat $site/port)" --home $site/home --key-file $site/key > $site/init.txt
done

# One of them makes the file that all agree on; the description of the table stands in it in full.
p2pfl peers create */home/*.card -o peers.yaml --name heart --task "$here/task.yaml" \
    --set rounds=$rounds --set model.licence=CC-BY-4.0 --set model.threshold=0.5

# Each hospital takes part. Only here: what cleveland-1 says is seen, what the others say lies in SITE/progress.txt.
running=""
for site in cleveland-2 hungary switzerland long-beach; do
    p2pfl join --peers peers.yaml --home $site/home --data $site/records.csv > $site/join.txt 2> $site/progress.txt &
    running="$running $!"
done
failed=""
p2pfl join --peers peers.yaml --home cleveland-1/home --data cleveland-1/records.csv || failed=yes
[ -z "$failed" ] || kill $running 2> /dev/null || :  # some may have ended by themselves
for one in $running; do
    wait "$one" || failed=yes
done
[ -z "$failed" ] || { tail -n 5 ./*/progress.txt; exit 1; }

# Any of them writes the model out. All write the same bytes.
for site in cleveland-1 hungary; do
    p2pfl model export --peers peers.yaml --home $site/home -o $site/heart.safetensors > $site/export.txt
done
cmp cleveland-1/heart.safetensors hungary/heart.safetensors
cmp cleveland-1/heart.md hungary/heart.md

# A sixth hospital, with its own words for columns and codes, uses it: no home, no peers.yaml.
cp hungary/heart.safetensors hungary/heart.md sixth/
cd sixth
p2pfl model weights heart.safetensors | head -n 6
p2pfl predict --model heart.safetensors --data records.csv --id Fall --csv said.csv | head -n 6
