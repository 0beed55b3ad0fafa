"""The formulas of the cells on rows of H numbers, for the loops on the processor.

    step        gates and the next state, from p, u and the state
    step_dot    their derivatives along a direction
    back        the gradients of p, u and the state before, from those of the state behind
    back_dot    their derivatives along the direction

Each statement is a loop of its own that writes one row and reads at most eight: of more LLVM does not check
whether they overlap, and would leave the loop without vectors. Where a row is wanted for a moment, one that
is written later holds it. Derivatives are written without the number 1, which would make float64 of float32:
σ' = σ - σ², and tanh' g = g - tanh² g. A gradient has a g before its name, a derivative along the direction a
d, the derivative of a gradient both: dgp.
"""

from __future__ import annotations

from ..cpu import transcendental
from ..cpu.compiler import kernel

_rows = kernel(no_cpython_wrapper=True)
_contracted = kernel(no_cpython_wrapper=True, fastmath={"contract"})  # x * y + z may be rounded once


@_contracted
def _sigmoid_of_sum(y, a, b):
    one = y.dtype.type(1)
    for k in range(y.size):
        y[k] = one / (one + transcendental.exp(-(a[k] + b[k])))


@_contracted
def _tanh_of_sum(y, a, b):
    for k in range(y.size):
        y[k] = transcendental.tanh(a[k] + b[k])


@_rows
def _copy(y, x):
    for k in range(y.size):
        y[k] = x[k]


@_rows
def _zero(y):
    zero = y.dtype.type(0)
    for k in range(y.size):
        y[k] = zero


@_rows
def _parts(x, H):
    return x[:H], x[H : 2 * H], x[2 * H : 3 * H], x[3 * H : 4 * H]


# ---- tanh: h' = tanh(p + u). The kept gate is h'.


@_rows
def tanh_step(p, u, gates, h, c):
    _tanh_of_sum(gates, p, u)
    _copy(h, gates)


@_contracted
def tanh_step_dot(dp, du, gates, h, c, dgates, dh, dc):
    for k in range(dh.size):
        along = dp[k] + du[k]
        dgates[k] = along - gates[k] * gates[k] * along
    _copy(dh, dgates)


@_contracted
def tanh_back(gates, h, c, gh, gc, gp, gu):
    for k in range(gh.size):
        gp[k] = gh[k] - gates[k] * gates[k] * gh[k]
    _zero(gh)


@_contracted
def tanh_back_dot(gates, dgates, h, dh, c, dc, gh, gc, dgh, dgc, dgp, dgu):
    for k in range(dgh.size):
        bend = gates[k] * dgates[k] * gh[k]
        dgp[k] = dgh[k] - gates[k] * gates[k] * dgh[k] - (bend + bend)
    _zero(dgh)


# ---- relu: h' = relu(p + u)


@_rows
def relu_step(p, u, gates, h, c):
    zero = h.dtype.type(0)
    for k in range(h.size):
        value = p[k] + u[k]
        gates[k] = zero if value <= zero else value
    _copy(h, gates)


@_rows
def relu_step_dot(dp, du, gates, h, c, dgates, dh, dc):
    zero = dh.dtype.type(0)
    for k in range(dh.size):
        dgates[k] = dp[k] + du[k] if gates[k] > zero else zero
    _copy(dh, dgates)


@_rows
def relu_back(gates, h, c, gh, gc, gp, gu):
    zero = gh.dtype.type(0)
    for k in range(gh.size):
        gp[k] = gh[k] if gates[k] > zero else zero
    _zero(gh)


@_rows
def relu_back_dot(gates, dgates, h, dh, c, dc, gh, gc, dgh, dgc, dgp, dgu):
    relu_back(gates, h, c, dgh, dgc, dgp, dgu)


# ---- lstm: i, f, o = σ(p + u), g = tanh(p + u), c' = f c + i g, h' = o tanh(c'); i, f, g, o are kept


@_contracted
def lstm_step(p, u, gates, h, c):
    H = h.size
    i, f, g, o = _parts(gates, H)
    _sigmoid_of_sum(gates[: 2 * H], p[: 2 * H], u[: 2 * H])
    _tanh_of_sum(g, p[2 * H : 3 * H], u[2 * H : 3 * H])
    _sigmoid_of_sum(o, p[3 * H :], u[3 * H :])
    for k in range(H):
        c[k] = f[k] * c[k] + i[k] * g[k]
    for k in range(H):
        h[k] = o[k] * transcendental.tanh(c[k])


@_contracted
def _tanh_of_cell(m, i, f, g, c):
    """tanh(c') again."""
    for k in range(m.size):
        m[k] = transcendental.tanh(f[k] * c[k] + i[k] * g[k])


@_contracted
def lstm_step_dot(dp, du, gates, h, c, dgates, dh, dc):
    H = dh.size
    (i, f, g, o), (di, df, dg, do) = _parts(gates, H), _parts(dgates, H)
    for k in range(dgates.size):
        dgates[k] = (gates[k] - gates[k] * gates[k]) * (dp[k] + du[k])
    dp_g, du_g = dp[2 * H : 3 * H], du[2 * H : 3 * H]
    for k in range(H):
        along = dp_g[k] + du_g[k]
        dg[k] = along - g[k] * g[k] * along
    for k in range(H):
        dc[k] = df[k] * c[k] + f[k] * dc[k] + di[k] * g[k] + i[k] * dg[k]
    _tanh_of_cell(dh, i, f, g, c)
    for k in range(H):
        m = dh[k]
        dh[k] = do[k] * m + o[k] * (dc[k] - m * m * dc[k])


@_contracted
def lstm_back(gates, h, c, gh, gc, gp, gu):
    H = gh.size
    (i, f, g, o), (gi, gf, gg, go) = _parts(gates, H), _parts(gp, H)
    m = gi
    _tanh_of_cell(m, i, f, g, c)
    for k in range(H):
        go[k] = gh[k] * m[k] * (o[k] - o[k] * o[k])
    for k in range(H):
        gc[k] += gh[k] * (o[k] - o[k] * m[k] * m[k])
    for k in range(H):
        gi[k] = gc[k] * g[k] * (i[k] - i[k] * i[k])
    for k in range(H):
        gf[k] = gc[k] * c[k] * (f[k] - f[k] * f[k])
    for k in range(H):
        gg[k] = gc[k] * (i[k] - i[k] * g[k] * g[k])
    for k in range(H):
        gc[k] *= f[k]
    _zero(gh)


@_contracted
def lstm_back_dot(gates, dgates, h, dh, c, dc, gh, gc, dgh, dgc, dgp, dgu):
    H = gh.size
    (i, f, g, o), (di, df, dg, do) = _parts(gates, H), _parts(dgates, H)
    dgi, dgf, dgg, dgo = _parts(dgp, H)
    m, dm = dgi, dgf
    _tanh_of_cell(m, i, f, g, c)
    for k in range(H):
        dm[k] = df[k] * c[k] + f[k] * dc[k] + di[k] * g[k] + i[k] * dg[k]
    for k in range(H):
        dm[k] -= m[k] * m[k] * dm[k]
    for k in range(H):
        bend = o[k] * m[k] * dm[k]
        turn = do[k] - do[k] * m[k] * m[k] - (bend + bend)
        dgc[k] += dgh[k] * (o[k] - o[k] * m[k] * m[k]) + gh[k] * turn
    for k in range(H):
        slope, bend = o[k] - o[k] * o[k], o[k] * do[k]
        turn = dm[k] * slope + m[k] * (do[k] - (bend + bend))
        dgo[k] = dgh[k] * m[k] * slope + gh[k] * turn
    whole = dgg  # the gradient of c', which what follows multiplies
    for k in range(H):
        whole[k] = gc[k] + gh[k] * (o[k] - o[k] * m[k] * m[k])
    for k in range(H):
        slope, bend = i[k] - i[k] * i[k], i[k] * di[k]
        dgi[k] = dgc[k] * g[k] * slope + whole[k] * (dg[k] * slope + g[k] * (di[k] - (bend + bend)))
    for k in range(H):
        slope, bend = f[k] - f[k] * f[k], f[k] * df[k]
        dgf[k] = dgc[k] * c[k] * slope + whole[k] * (dc[k] * slope + c[k] * (df[k] - (bend + bend)))
    for k in range(H):
        dgh[k] = dgc[k] * f[k] + whole[k] * df[k]
    for k in range(H):
        bend = i[k] * g[k] * dg[k]
        turn = di[k] - di[k] * g[k] * g[k] - (bend + bend)
        dgg[k] = dgc[k] * (i[k] - i[k] * g[k] * g[k]) + dgg[k] * turn
    _copy(dgc, dgh)
    _zero(dgh)


# ---- gru: r, z = σ(p + u), n = tanh(p_n + r q) with q = u_n, h' = n + z (h - n); r, z, n, q are kept


@_contracted
def gru_step(p, u, gates, h, c):
    H = h.size
    r, z, n, q = _parts(gates, H)
    p_n = p[2 * H :]
    _sigmoid_of_sum(gates[: 2 * H], p[: 2 * H], u[: 2 * H])
    _copy(q, u[2 * H :])
    for k in range(H):
        n[k] = transcendental.tanh(p_n[k] + r[k] * q[k])
    for k in range(H):
        h[k] = n[k] + z[k] * (h[k] - n[k])


@_contracted
def gru_step_dot(dp, du, gates, h, c, dgates, dh, dc):
    H = dh.size
    (r, z, n, q), (dr, dz, dn, dq) = _parts(gates, H), _parts(dgates, H)
    dp_n, both = dp[2 * H :], dgates[: 2 * H]
    for k in range(both.size):
        both[k] = (gates[k] - gates[k] * gates[k]) * (dp[k] + du[k])
    _copy(dq, du[2 * H :])
    for k in range(H):
        along = dp_n[k] + dr[k] * q[k] + r[k] * dq[k]
        dn[k] = along - n[k] * n[k] * along
    for k in range(H):
        dh[k] = dn[k] + dz[k] * (h[k] - n[k]) + z[k] * (dh[k] - dn[k])


@_contracted
def gru_back(gates, h, c, gh, gc, gp, gu):
    H = gh.size
    r, z, n, q = _parts(gates, H)
    gp_r, gp_z, gp_n, gu_n = gp[:H], gp[H : 2 * H], gp[2 * H :], gu[2 * H :]
    for k in range(H):
        gp_z[k] = gh[k] * (h[k] - n[k]) * (z[k] - z[k] * z[k])
    for k in range(H):
        new = gh[k] - gh[k] * z[k]
        gp_n[k] = new - new * n[k] * n[k]
    for k in range(H):
        gu_n[k] = gp_n[k] * r[k]
    for k in range(H):
        gp_r[k] = gp_n[k] * q[k] * (r[k] - r[k] * r[k])
    for k in range(H):
        gh[k] *= z[k]
    _copy(gu[: 2 * H], gp)


@_contracted
def gru_back_dot(gates, dgates, h, dh, c, dc, gh, gc, dgh, dgc, dgp, dgu):
    H = gh.size
    (r, z, n, q), (dr, dz, dn, dq) = _parts(gates, H), _parts(dgates, H)
    dgp_r, dgp_z, dgp_n, dgu_n = dgp[:H], dgp[H : 2 * H], dgp[2 * H :], dgu[2 * H :]
    for k in range(H):
        slope, bend, along = z[k] - z[k] * z[k], z[k] * dz[k], h[k] - n[k]
        dgp_z[k] = (dgh[k] * along + gh[k] * (dh[k] - dn[k])) * slope + gh[k] * along * (
            dz[k] - (bend + bend)
        )
    for k in range(H):
        new, dnew = gh[k] - gh[k] * z[k], dgh[k] - dgh[k] * z[k] - gh[k] * dz[k]
        bend = new * n[k] * dn[k]
        dgp_n[k] = dnew - dnew * n[k] * n[k] - (bend + bend)
    for k in range(H):
        dgh[k] = dgh[k] * z[k] + gh[k] * dz[k]
    inner = dgu  # the gradient of p_n, in the row of r for a moment
    for k in range(H):
        new = gh[k] - gh[k] * z[k]
        inner[k] = new - new * n[k] * n[k]
    for k in range(H):
        dgu_n[k] = dgp_n[k] * r[k] + inner[k] * dr[k]
    for k in range(H):
        slope, bend = r[k] - r[k] * r[k], r[k] * dr[k]
        turn = dr[k] - (bend + bend)
        dgp_r[k] = (dgp_n[k] * q[k] + inner[k] * dq[k]) * slope + inner[k] * q[k] * turn
    _copy(dgu[: 2 * H], dgp)
