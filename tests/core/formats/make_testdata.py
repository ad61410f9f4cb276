"""Writes the files in testdata/ with other people's writers: NumPy, Python's gzip and zipfile.

    python3 make_testdata.py        (NumPy 1.24 or newer; the bytes of compressed files may differ
                                     between versions of zlib, their contents may not)
"""

import gzip
import io
import pathlib
import struct
import zipfile

import numpy as np

DIR = pathlib.Path(__file__).parent / "testdata"
DIR.mkdir(exist_ok=True)


def npy(name, array, version=(1, 0), allow_pickle=False):
    with open(DIR / name, "wb") as f:
        np.lib.format.write_array(f, array, version=version, allow_pickle=allow_pickle)


def idx(code, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


for dtype in ["uint8", "int8", "uint16", "int16", "int32", "int64", "float32", "float64"]:
    npy(f"{dtype}.npy", np.arange(6).reshape(2, 3).astype(dtype))
npy("version2.npy", np.arange(6, dtype="float32").reshape(2, 3), version=(2, 0))
npy("version3.npy", np.arange(6, dtype="float32").reshape(2, 3), version=(3, 0))
npy("scalar.npy", np.float32(5))
npy("vector.npy", np.arange(3, dtype="int64"))
npy("empty.npy", np.zeros((0, 4), dtype="float32"))
npy("big_endian.npy", np.arange(6, dtype=">f4").reshape(2, 3))
npy("fortran.npy", np.asfortranarray(np.arange(6, dtype="float32").reshape(2, 3)))
npy("object.npy", np.array([{}, None], dtype=object), allow_pickle=True)
npy("bool.npy", np.array([True, False]))
npy("structured.npy", np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))

x = np.arange(12, dtype="uint8").reshape(3, 2, 2)
y = np.array([2, 0, 1], dtype="int64")
np.savez(DIR / "stored.npz", x=x, y=y)
np.savez_compressed(DIR / "deflated.npz", x=x, y=y)

# As zipfile writes what it cannot seek in: sizes follow the data, the local headers hold zeros.
class Unseekable(io.BytesIO):
    def seekable(self):
        return False

    def seek(self, *_):
        raise OSError

    def tell(self):
        raise OSError


stream = Unseekable()
with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as z:
    for name, array in [("x", x), ("y", y)]:
        member = io.BytesIO()
        np.save(member, array)
        z.writestr(f"{name}.npy", member.getvalue())
(DIR / "streamed.npz").write_bytes(stream.getvalue())

# A bomb: one megabyte of zeros, deflated once, named by 100 directory entries.
member = io.BytesIO()
np.save(member, np.zeros(1 << 20, dtype="uint8"))
bomb = io.BytesIO()
with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as z:
    z.writestr("a000.npy", member.getvalue())
    first = z.filelist[0]
    for i in range(1, 100):
        copy = zipfile.ZipInfo(f"a{i:03}.npy")
        for field in ["compress_type", "CRC", "compress_size", "file_size", "header_offset",
                      "flag_bits"]:
            setattr(copy, field, getattr(first, field))
        z.filelist.append(copy)
    z._didModify = True
(DIR / "overlap.npz").write_bytes(bomb.getvalue())

# A zip64 directory, as for files of four gigabytes, around a small one.
zipfile.ZIP64_LIMIT = 10
zip64 = io.BytesIO()
with zipfile.ZipFile(zip64, "w") as z:
    for name, array in [("x", x), ("y", y)]:
        member = io.BytesIO()
        np.save(member, array)
        z.writestr(f"{name}.npy", member.getvalue())
(DIR / "zip64.npz").write_bytes(zip64.getvalue())

images = np.arange(2 * 3 * 4, dtype="uint8").reshape(2, 3, 4)
(DIR / "images.idx").write_bytes(idx(0x08, images))
(DIR / "images.idx.gz").write_bytes(gzip.compress(idx(0x08, images), mtime=0))
(DIR / "int32.idx").write_bytes(idx(0x0C, np.array([1, -2, 70000], dtype="int32")))
(DIR / "float32.idx").write_bytes(idx(0x0D, np.array([[0.5, -1.5]], dtype="float32")))
