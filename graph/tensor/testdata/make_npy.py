# Writes testdata/npy with NumPy 2.4.6 and ml_dtypes 0.6.0:
#   cd graph/tensor/testdata/npy && python ../make_npy.py
import numpy as np, ml_dtypes
from numpy.lib import format as F

a = (np.arange(24) * 1.5 - 7).reshape(2, 3, 4)
for k in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "c8", "c16"]:
    np.save(k + ".npy", a.astype(k))
for k in ["u1", "u2", "u4", "u8"]:
    np.save(k + ".npy", (np.arange(24) * 9).reshape(2, 3, 4).astype(k))
np.save("b1.npy", np.arange(6).reshape(2, 3) % 2 == 0)
np.save("fortran.npy", np.asfortranarray(a.astype("f4")))
np.save("big.npy", a.astype(">f4"))
np.save("bigc.npy", a.astype(">c8"))
np.save("bf.npy", a.astype(ml_dtypes.bfloat16))
np.save("U.npy", np.array([["héllo", "b", ""], ["日本", "x\0y", "zz"]]))
np.save("S.npy", np.array([b"ab", b"c"]))
np.save("scalar.npy", np.float32(2.5))
np.save("empty.npy", np.zeros((0, 3), "f4"))
np.save("v1.npy", np.arange(3.0))
for v in [(2, 0), (3, 0)]:
    with open("ver%d.npy" % v[0], "wb") as f:
        F.write_array(f, a.astype("f4"), version=v)
np.savez("st.npz", b=a.astype("f4"), a=np.arange(3))
np.savez_compressed("de.npz", b=a.astype("f4"), a=np.arange(3))
