"""`python -m miloco_edge` is the `miloco-edge` command."""

from miloco_edge.cli.main import main

main()
