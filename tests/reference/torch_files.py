#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the files of torch.save that the tests of src/checkpoint/torch_file.cpp read.

usage: torch_files.py FOLDER      with torch (2.11.0 wrote those in tests/checkpoint/golden)

tensors.txt holds what is in them, a tensor a line: file, key, name, dtype, shape and the bytes of
the values in hexadecimal, row by row, with tabs between.
"""

import io
import os
import pathlib
import sys

import torch
from torch import nn

DTYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16",
    torch.uint16: "U16", torch.float16: "F16", torch.bfloat16: "BF16", torch.int32: "I32",
    torch.uint32: "U32", torch.float32: "F32", torch.int64: "I64", torch.uint64: "U64",
    torch.float64: "F64", torch.complex64: "C64", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2", torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ", torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}


def model():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with torch.no_grad():
        for i, tensor in enumerate(net.state_dict().values()):
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) * 0.37 + i)
    return net


def every_dtype():
    state = {}
    for dtype, name in DTYPES.items():
        raw = torch.arange(1, 1 + 3 * dtype.itemsize, dtype=torch.uint8)
        state[name] = torch.tensor([True, False, True]) if name == "BOOL" else raw.view(dtype)
    return state


def views():
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tied = nn.Parameter(torch.tensor([[1.5, -2.5]]))
    return {
        "transposed": base.permute(2, 0, 1),
        "sliced": base[1:, :2, 1::2],
        "row": base[1, 2],
        "expanded": torch.tensor([[7.0], [8.0]]).expand(2, 3),
        "scalar": torch.tensor(-3.25, dtype=torch.float64),
        "one": base[1, 1, 1],
        "empty": torch.empty(2, 0, 3, dtype=torch.int16),
        "encoder.weight": tied,
        "decoder.weight": tied,
        "column": torch.arange(6, dtype=torch.int64).reshape(3, 2)[:, 1:].t(),
        "mask": torch.tensor([[True, False], [True, True]]).t(),
    }


def checkpoint(net):
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return {
        "model_state": net.state_dict(), "optimizer_state": optimizer.state_dict(), "epoch": 3,
        "loss": 0.25, "best": torch.tensor(0.5), "seed": 2**70, "name": "tiny", "none": None,
        "flags": [True, False, -5, 70000, 300],
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    lines = []

    def note(file, key, state):
        for name, tensor in state.items():
            if not isinstance(tensor, torch.Tensor):
                continue
            raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            shape = ",".join(str(size) for size in tensor.shape)
            lines.append("\t".join([file, key, name, DTYPES[tensor.dtype], shape, raw.hex()]))

    def save(file, what, key="", **options):
        torch.save(what, folder / file, **options)
        note(file, key, what[key] if key else what)

    net = model()
    save("mlp.pt", net.state_dict())
    buffer = io.BytesIO()  # what has no name has the folder "archive"
    torch.save(net[0].state_dict(), buffer)
    (folder / "buffer.pt").write_bytes(buffer.getvalue())
    note("buffer.pt", "", net[0].state_dict())
    save("protocol4.pt", net[0].state_dict(), pickle_protocol=4)
    save("protocol5.pt", net[0].state_dict(), pickle_protocol=5)
    save("dtypes.pt", every_dtype())
    save("views.pt", views())
    save("checkpoint.pt", checkpoint(net), key="model_state")
    (folder / "tensors.txt").write_text("\n".join(lines) + "\n")

    # What is refused.
    small = nn.Linear(1, 1)
    torch.save(small.state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(small, folder / "module.pt")
    torch.save({"c": torch.zeros(1, dtype=torch.complex64).conj()}, folder / "conjugate.pt")
    torch.save([torch.zeros(1)], folder / "list.pt")
    torch.jit.script(nn.Identity()).save(str(folder / "script.pt"))
    torch.serialization.set_crc32_options(False)
    torch.save({"a": torch.arange(3)}, folder / "unchecked.pt")
    print(sum(os.path.getsize(path) for path in folder.iterdir()), "bytes")


if __name__ == "__main__":
    main()
