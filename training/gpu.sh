#!/bin/sh
# Trains aquila2-demo further on one GPU and then with four times the window; about ten minutes.
# usage: training/gpu.sh FOLDER [SECONDS OF THE FIRST RUN] [SECONDS OF THE SECOND]
# Leaves FOLDER/short and FOLDER/long, checkpoint folders, with the curves of both runs.
set -eu
out=$1 first=${2:-240} second=${3:-240}
train="python3 -m training.aquila2_demo.train --device cuda --peak 0.7"
export TOKENIZERS_PARALLELISM=false
$train --init aquila2_runtime/demo --out "$out/run" --seconds "$first" --seed 20 --tokens 65536
python3 -m training.aquila2_demo.export --run "$out/run" --out "$out/short"
cp "$out/run/curve.jsonl" "$out/short/"
$train --window 16384 --init "$out/short" --out "$out/wide" --seconds "$second" --seed 21 \
    --tokens 131072
python3 -m training.aquila2_demo.export --run "$out/wide" --out "$out/long"
cp "$out/wide/curve.jsonl" "$out/long/"
rm -r "$out/run" "$out/wide"
