"""What commands print."""

import pytest

from miloco_edge.cli.output import Output


def test_a_table_in_a_pipe_keeps_each_row_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = "mmproj-miloco-edge-demo-fit-9MB.gguf"
    Output().table(("file", "what"), [(name, "long " * 30)])
    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("file")
    assert row.startswith(f"{name}  long")
    assert len(row) < 250
