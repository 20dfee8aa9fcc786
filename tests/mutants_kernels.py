"""Mistakes to plant in the kernels, one at a time; the tests of the kernels must notice each.

This is a pytest plugin: `DCFNET_MUTANT="conv: ..." pytest -p mutants_kernels ...` runs tests with that mistake in a
copy of the kernels' folder.  test_mutants_kernels.py does so for all of them.
"""

import os
import pathlib
import shutil
import tempfile
from typing import NamedTuple

from dcfnet_np import kernels


class Mutant(NamedTuple):
    name: str  # also says what is wrong
    file: str  # in kernels/
    tests: str  # which tests to run: pytest's -k
    old: str  # the first place where this stands
    new: str


MUTANTS = [
    Mutant("conv: no barrier after the tile is loaded", "conv.cu", "test_forward and 3-channels",
           "four[k];\n        }\n        __syncthreads();", "four[k];\n        }\n"),
    Mutant("conv: no barrier before the tile is loaded again", "conv.cu", "test_forward and padding-0",
           "                }\n        }\n        __syncthreads();\n    }\n\n    // A row of each",
           "                }\n        }\n    }\n\n    // A row of each"),
    Mutant("conv: no barrier before sums go out", "conv.cu", "test_forward and 3-channels",
           "= side;\n        }\n        __syncthreads();", "= side;\n        }\n"),
    Mutant("conv: no barrier before the next row goes out", "conv.cu", "every_tile",
           "if (h + 1 < HIGH) __syncthreads();", ""),
    Mutant("conv: rows of a thread not interleaved on their way out", "conv.cu", "every_tile",
           "pixel_out / TILE_X * HIGH + h", "pixel_out / TILE_X + h"),
    Mutant("conv: LRN's first channels not loaded", "conv.cu", "with_normalisation and 7",
           "o < (NORMALISED ? LRN_RADIUS : 0)", "o < (NORMALISED ? LRN_RADIUS - 1 : 0)"),
    Mutant("conv: LRN reads a channel beyond the tile", "conv.cu", "with_normalisation and 32",
           "if (o + LRN_RADIUS < TILE_O)", "if (o + LRN_RADIUS <= TILE_O)"),
    Mutant("conv: LRN without its window", "conv.cu", "with_normalisation and 7",
           "if (WINDOWED) out *= scale;", ""),
    Mutant("conv: tile one column too narrow", "conv.cu", "test_forward and 3-channels",
           "input[C_STEP][ROWS][COLUMNS];", "input[C_STEP][ROWS][COLUMNS - 1];"),
    Mutant("conv: tile one row too low", "conv.cu", "test_forward and 3-channels",
           "input[C_STEP][ROWS][COLUMNS];", "input[C_STEP][ROWS - 1][COLUMNS];"),
    Mutant("conv: reads left of the image", "conv.cu", "test_forward and 3-channels",
           "in_x >= 0 && in_x < W ? in_y * W + in_x : -1", "in_x < W ? in_y * W + in_x : -1"),
    Mutant("conv: reads below the image", "conv.cu", "test_forward and one-element",
           "in_y >= 0 && in_y < H &&", "in_y >= 0 &&"),
    Mutant("conv: reads channels that are not there", "conv.cu", "test_forward and dilation-2",
           "from[k] >= 0 && c_block + c < C ?", "from[k] >= 0 ?"),
    Mutant("conv: a zero outside becomes the pixel at the corner", "conv.cu", "test_forward and 3-channels",
           "from[k] >= 0 && c_block + c < C ? planes[c * HW + from[k]]",
           "c_block + c < C ? planes[c * HW + max(from[k], 0)]"),
    Mutant("conv: writes right of the image", "conv.cu", "test_forward and 3-channels",
           "if (out_y >= OH || out_x >= OW) continue;", "if (out_y >= OH) continue;"),
    Mutant("conv: writes below the image", "conv.cu", "test_forward and 3-channels",
           "if (out_y >= OH || out_x >= OW) continue;", "if (out_y > OH || out_x >= OW) continue;"),
    Mutant("conv: writes channels that are not there", "conv.cu", "test_forward and 3-channels",
           "if (o_block + o >= O) break;", ""),
    Mutant("conv: last tap's weights not loaded", "conv.cu", "test_forward and one-pixel",
           "if (i < C_STEP * 9 * TILE_O / 4) *", "if (i < C_STEP * 9 * TILE_O / 4 - TILE_O / 4) *"),
    Mutant("conv: weights of channels that are not there", "conv.cu", "test_forward and dilation-2-padding-1",
           "&& row < (C - c_block) * 9\n", "\n"),
    Mutant("conv: weights of the first channels for all", "conv.cu", "test_forward and padding-0",
           "taps += C_STEP * 9 * OP;", ""),
    Mutant("conv: rows and columns of the kernel exchanged", "conv.cu", "test_forward and 3-channels",
           "&weight[c][i * 3 + j][o_thread + q]", "&weight[c][j * 3 + i][o_thread + q]"),
    Mutant("conv: dilation of columns forgotten", "conv.cu", "test_forward and dilation-2",
           "value[h + i * DILATION][v + j * DILATION]", "value[h + i * DILATION][v + j]"),
    Mutant("conv: a row that the kernel needs is skipped", "conv.cu", "test_forward and dilation-2",
           "r % DILATION >= HIGH) continue", "r % DILATION < HIGH) continue"),
    Mutant("conv: ReLU keeps negative values", "conv.cu", "test_forward and 3-channels",
           "out = out > T(0) ? out : T(0);", "out = out < T(0) ? out : T(0);"),
    Mutant("conv: the gradient through a ReLU is not masked", "conv.cu", "through_a_relu",
           "out = extra[start + o * OHW] > T(0) ? out : T(0);", "out = extra[start + o * OHW] > T(0) ? out : out;"),
    Mutant("conv: kernel not turned for the gradient to the data", "conv.cu", "test_backward and 3-channels",
           "w[(in * OUT + out) * 9 + 8 - tap]", "w[(in * OUT + out) * 9 + tap]"),
    Mutant("conv: one thread too many packs", "conv.cu", "test_forward and one-pixel",
           "if (i >= IN * 9 * OUT_PADDED) return;", "if (i > IN * 9 * OUT_PADDED) return;"),
    Mutant("conv weights: no barrier after the tiles are loaded", "conv.cu", "test_backward and 3-channels",
           "lane] = pixel[b][r];\n        }\n        __syncthreads();", "lane] = pixel[b][r];\n        }\n"),
    Mutant("conv weights: no barrier before the tiles are loaded again", "conv.cu", "weight_tile",
           "            }\n        __syncthreads();\n    }\n\n#pragma unroll\n    for (int m = 0",
           "            }\n    }\n\n#pragma unroll\n    for (int m = 0"),
    Mutant("conv weights: dy read right of the image", "conv.cu", "test_backward and 3-channels",
           "o < O && y_block + r < OH && out_x < OW", "o < O && y_block + r < OH"),
    Mutant("conv weights: every block sums all tiles", "conv.cu", "test_backward and 3-channels",
           "tile < tiles; tile += gridDim.x)", "tile < tiles; tile += 1)"),
    Mutant("conv weights: bias added by one step only", "conv.cu", "test_backward and 3-channels",
           "for (int k = 0; k < STEP; ++k) bias[m] += e[m][k];", "bias[m] += e[m][0];"),
    Mutant("conv weights: partial sums of one block overwrite the next's", "conv.cu",
           "test_backward and 3-channels",
           "blockIdx.x) * (9 * C + 1) * O + o;", "blockIdx.x) * (9 * C) * O + o;"),
    Mutant("conv weights: the last partial sum is left out", "conv.cu", "test_backward and 3-channels",
           "p < parts; p += 8)", "p < parts - 1; p += 8)"),
    Mutant("conv weights: no barrier in the sum of partial sums", "conv.cu", "test_backward and 3-channels",
           "= sum;\n    __syncthreads();\n    if (threadIdx.y > 0", "= sum;\n    if (threadIdx.y > 0"),
    Mutant("conv.py: height and width exchanged", "conv.py", "test_forward and 3-channels",
           "map(np.int32, (c, h, w, o,", "map(np.int32, (c, w, h, o,"),
    Mutant("conv.py: grid one block short", "conv.py", "test_forward and 3-channels",
           "grid = (blocks(ow, COLUMNS), blocks(oh, tile.rows)", "grid = (ow // COLUMNS, blocks(oh, tile.rows)"),
    Mutant("conv.py: Python numbers as arguments", "conv.py", "test_forward and 3-channels",
           "sizes = map(np.int32, (c,", "sizes = iter((c,"),
    Mutant("conv.py: padding of the gradient", "conv.py", "test_backward and padding-0",
           "2 * dilation - padding", "dilation + padding"),
    Mutant("conv.py: contiguity is not asked for", "__init__.py", "test_what_is_refused",
           "if not array.flags.c_contiguous:", "if False:"),
    Mutant("lrn: one channel too many", "lrn.cu", "forward_and_backward and float64",
           "q >= 0 && q < C ? x[", "q >= 0 && q <= C ? x["),
    Mutant("lrn: one channel before the first", "lrn.cu", "forward_and_backward and float64",
           "q >= 0 && q < C ? x[", "q >= -1 && q < C ? x["),
    Mutant("lrn: window of channels one short", "lrn.cu", "forward_and_backward and float64",
           "for (int d = 0; d <= 2 * R; ++d) s += value", "for (int d = 0; d < 2 * R; ++d) s += value"),
    Mutant("lrn: pixels that are not there", "lrn.cu", "forward_and_backward and float64",
           "if (p >= P) return;", "if (p > P) return;"),
    Mutant("lrn: writes channels that are not there", "lrn.cu", "every_chunk",
           "if (first + i >= C) break;\n        T s", "T s"),
    Mutant("lrn: window not multiplied in", "lrn.cu", "forward_and_backward and float64 and True",
           "WINDOW ? out * scale : out", "out"),
    Mutant("lrn: gradient without the sum over channels", "lrn.cu", "forward_and_backward and float64",
           " - factor * value[i + 2 * R] * sum", ""),
    Mutant("lrn: gradient's factor 2 forgotten", "lrn.cu", "forward_and_backward and float64",
           "T(2) * alpha * beta", "alpha * beta"),
    Mutant("lrn: short cut taken for every beta", "power.cuh", "forward_and_backward and float64",
           "return beta == 0.75 ? power34(s) : pow(s, -beta);", "return power34(s);"),
    Mutant("lrn: float in the place of double", "power.cuh", "forward_and_backward and float64",
           "const double r = sqrt(s);", "const float r = sqrtf(s);"),
    Mutant("dft: no barrier after the tiles are loaded", "dft.cu", "both_directions and float64",
           "entry.y;\n        }\n        __syncthreads();", "entry.y;\n        }\n"),
    Mutant("dft: no barrier before the tiles are loaded again", "dft.cu", "both_directions and float64",
           "        __syncthreads();\n    }\n#pragma unroll\n    for (int n", "    }\n#pragma unroll\n    for (int n"),
    Mutant("dft: no barrier before P and Q go out", "dft.cu", "both_directions and float64",
           "side);\n            }\n    __syncthreads();", "side);\n            }\n"),
    Mutant("dft: sine and cosine exchanged", "dft.cu", "both_directions and float64",
           "tiles.table[0][k][j] = entry.x;\n            tiles.table[1][k][j] = entry.y;",
           "tiles.table[0][k][j] = entry.y;\n            tiles.table[1][k][j] = entry.x;"),
    Mutant("dft: the pixel in the middle counted twice", "dft.cu", "both_directions and float64",
           "s > 0 && 2 * s < W;", "s > 0 && 2 * s <= W;"),
    Mutant("dft: sign of the exponent", "dft.cu", "both_directions and float64", "-SIGN * q[1]", "SIGN * q[1]"),
    Mutant("dft: rows that are not there", "dft.cu", "both_directions and float64",
           "if (row0 + first + i < rows && v < columns)", "if (v < columns)"),
    Mutant("dft: second half of a large tile's rows", "dft.cu", "every_tile_size and 8",
           "&tiles.folded[product][k][row + m * NEXT_ROWS]", "&tiles.folded[product][k][row + m * SOME]"),
    Mutant("train: gather of the wrong channel's mean", "gather.cu", "gather", "- mean[c];", "- mean[0];"),
    Mutant("train: one pixel too many", "gather.cu", "gather", "if (p >= P) return;", "if (p > P) return;"),
    Mutant("sgd: one value too many", "sgd.cu", "test_sgd_step",
           "if (i >= size) return;", "if (i > size) return;"),
    Mutant("sgd: velocity not kept", "sgd.cu", "test_sgd_step", "v[i] = step;", ""),
    Mutant("sgd: weight decay added to the step, not the gradient", "sgd.cu", "test_sgd_step",
           "+ decay * p[i];", "+ decay;"),
]  # fmt: skip


def plant(mutant: Mutant, folder: pathlib.Path) -> None:
    """Make `folder` a copy of the kernels with the mistake, and have dcfnet_np.kernels read its sources there."""
    shutil.copytree(kernels.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    path = folder / mutant.file
    text = path.read_text()
    if mutant.old not in text:
        raise ValueError(f"mutant {mutant.name!r}: nothing to replace in {mutant.file}; the source has changed")
    text = text.replace(mutant.old, mutant.new, 1)
    path.write_text(text)
    if path.suffix == ".py":
        name = "" if path.stem == "__init__" else f".{path.stem}"
        module = __import__(f"{kernels.__name__}{name}", fromlist=["__name__"])
        exec(compile(text, str(path), "exec"), module.__dict__)
    kernels.OPTIONS = ("-std=c++17", f"-I{folder}")
    kernels.FOLDER = folder


def pytest_configure(config):
    name = os.environ.get("DCFNET_MUTANT")
    if name:
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        plant(next(mutant for mutant in MUTANTS if mutant.name == name), pathlib.Path(folder.name))
