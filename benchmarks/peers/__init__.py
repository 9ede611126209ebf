"""The same question about the same frames, put to miloco-edge and to other runtimes in turns.

python -m benchmarks.peers MODEL --tools BIN --out benchmarks/results/peers.json
"""
