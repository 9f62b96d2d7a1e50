// Runs the forward kernels of ssd_fwd.cu on fibres and compares them with the recurrence in double.
//   g++ -std=c++17 -O1 -w -DSSDC_EMULATE emulate.cpp -o emulate && ./emulate
#include <random>
#include <vector>

#include "../ssd_fwd.cu"

#include "fibres.h"

template <class T> struct Case {
  int B, L, H, P, G, N;
  bool D, z, h0, seq;  // seq: sequences packed into one
};

// `parts`: the state is cut into that many of NT, a call each.
template <class T, int NT, int Heads, bool Wg> bool run(Case<T> c, int share = 0, int segments = 0, int parts = 1) {
  static std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform;
  auto fill = [&](size_t n) {
    std::vector<T> v(n + 8);  // 16-byte aligned by the allocator
    for (auto &e : v) e = from_float<T>(normal(random));
    return v;
  };
  const size_t rows = (size_t)c.B * c.L, states = (size_t)c.B * c.H * c.P * c.N;
  auto x = fill(rows * c.H * c.P), z = fill(rows * c.H * c.P), Bm = fill(rows * c.G * c.N), Cm = fill(rows * c.G * c.N);
  std::vector<float> dt(rows * c.H), A(c.H), D(c.H), bias(c.H), h0(states), hT(states, NAN);
  for (auto &v : dt) v = normal(random);
  for (auto &v : A) v = -std::exp(uniform(random) * 6 - 4);
  for (auto &v : D) v = normal(random);
  for (auto &v : bias) v = -2 - 3 * uniform(random);
  for (auto &v : h0) v = normal(random);
  std::vector<T> y(rows * c.H * c.P + 8, from_float<T>(NAN));

  std::vector<int> seq(rows, 3);
  for (size_t i = 1; i < rows; i++) seq[i] = seq[i - 1] + (random() % 40 == 0);

  ssdc_ssd p = {};
  p.x = x.data(), p.dt = dt.data(), p.A = A.data(), p.Bm = Bm.data(), p.Cm = Cm.data(), p.D = c.D ? D.data() : nullptr;
  p.z = c.z ? z.data() : nullptr, p.dt_bias = bias.data(), p.h0 = c.h0 ? h0.data() : nullptr, p.hT = hT.data(), p.y = y.data();
  p.batch = c.B, p.length = c.L, p.heads = c.H, p.head_dim = c.P, p.groups = c.G, p.state = c.N;
  p.type = sizeof(T) && std::is_same<T, __half>::value ? SSDC_F16 : SSDC_BF16;
  p.seq_idx = c.seq ? seq.data() : nullptr;
  p.dt_type = SSDC_F32, p.softplus = 1, p.dt_low = 0, p.dt_high = INFINITY;
  const int per_group = c.H / c.G * ((c.P + 63) / 64);
  const int blocks = share ? share : c.B * c.G * ((per_group + Heads - 1) / Heads);
  for (int part = 0; part < parts; part++) {
  if (parts > 1) {
    p.Bm = Bm.data() + part * NT, p.Cm = Cm.data() + part * NT, p.h0 = c.h0 ? h0.data() + part * NT : nullptr, p.hT = hT.data() + part * NT;
    p.state = std::min(NT, c.N - part * NT), p.pitch = c.N, p.add = part > 0;
    p.D = c.D && part == 0 ? D.data() : nullptr, p.z = c.z && part + 1 == parts ? z.data() : nullptr;
  }
  if (segments) {
    const int chunks = (c.L + kChunk - 1) / kChunk;
    if (parts == 1) p.hT = p.h0 ? h0.data() : hT.data();  // in place, as decoding does
    const std::vector<float> before = h0;  // for the reference
    const int sequences = c.B * c.G * ((per_group + Heads - 1) / Heads), fronts = std::min(std::max(1, segments / 2), chunks);
    Segments cut;
    cut.per_front = std::min((segments + fronts - 1) / fronts, (chunks + fronts - 1) / fronts);
    cut.chunks = ((chunks + fronts - 1) / fronts + cut.per_front - 1) / cut.per_front, cut.count = (chunks + cut.chunks - 1) / cut.chunks;
    const int all = (cut.count + cut.per_front - 1) / cut.per_front, heads = c.B * c.H, ahead = (all - 1) * cut.per_front;
    std::vector<float> kept(cut.count * states + 8, NAN), decay((size_t)cut.count * heads, NAN), behind((size_t)cut.count * heads, NAN);
    cut.states = kept.data(), cut.decay = decay.data(), cut.behind = behind.data();
    if (ahead > 0) {
      launch(ahead * c.B * ((c.H + 31) / 32), 256, [&] { ssd_segment_decays(p, cut); });
      launch((all * heads + 3) / 4, 128, [&] { ssd_segment_behind(p, cut); });
      launch(sequences * ahead, 128 * Heads, [&] { ssd_segment_states<T, NT, Heads, Wg>(p, cut); });
    }
    launch((states + 511) / 512, 128, [&] { ssd_segment_scan(p, cut); });
    // Whole fronts, the last first: they write hT, which may be h0, before the first are read. With fewer blocks they hand states over.
    const int forward = share ? std::min(share, sequences * all) : sequences * all;
    std::vector<float> handed((size_t)forward * 64 * NT * Heads, NAN);
    std::vector<int> ready(forward);
    launch(forward, 128 * Heads, [&] { ssd_forward<T, NT, Heads, Wg>(p, Handoff{handed.data(), ready.data()}, cut); }, !share);
    if (p.h0 && parts == 1) hT = h0, h0 = before;
  } else {
  std::vector<float> handed((size_t)blocks * 64 * NT * Heads, NAN);
  std::vector<int> ready(blocks);
  launch(blocks, 128 * Heads, [&] { ssd_forward<T, NT, Heads, Wg>(p, Handoff{handed.data(), ready.data()}, Segments()); });
  }
  }

  double dy = 0, ny = 0, dh = 0, nh = 0;
  for (int b = 0; b < c.B; b++)
    for (int h = 0; h < c.H; h++)
      for (int i = 0; i < c.P; i++) {
        const size_t row = ((size_t)b * c.H + h) * c.P + i;
        const int g = h / (c.H / c.G);
        std::vector<double> S(c.N);
        for (int n = 0; n < c.N; n++) S[n] = c.h0 ? h0[row * c.N + n] : 0;
        for (int t = 0; t < c.L; t++) {
          const size_t at = ((size_t)b * c.L + t) * c.H + h, bc = (((size_t)b * c.L + t) * c.G + g) * c.N;
          const bool anew = c.seq && t > 0 && seq[(size_t)b * c.L + t] != seq[(size_t)b * c.L + t - 1];
          const double step = std::log1p(std::exp((double)dt[at] + bias[h])), keep = anew ? 0 : std::exp(step * A[h]);
          const double xv = to_float(x[at * c.P + i]);
          double sum = c.D ? D[h] * xv : 0;
          for (int n = 0; n < c.N; n++) {
            S[n] = keep * S[n] + step * xv * to_float(Bm[bc + n]);
            sum += S[n] * to_float(Cm[bc + n]);
          }
          if (c.z) {
            const double v = to_float(z[at * c.P + i]);
            sum *= v / (1 + std::exp(-v));
          }
          const double e = to_float(y[at * c.P + i]) - sum;
          dy += e * e, ny += sum * sum;
        }
        for (int n = 0; n < c.N; n++) {
          const double e = hT[row * c.N + n] - S[n];
          dh += e * e, nh += S[n] * S[n];
        }
      }
  const double ey = std::sqrt(dy / ny), eh = std::sqrt(dh / nh);
  const bool half = std::is_same<T, __half>::value, ok = ey < (half ? 1.5e-3 : 8e-3) && eh < (half ? 1e-3 : 5e-3);
  printf("%s %s x%d B=%d L=%d H=%d P=%d G=%d N=%d: y %.2e state %.2e\n", ok ? "ok " : "BAD", Wg ? "wgmma" : "mma", Heads, c.B, c.L,
         c.H, c.P, c.G, c.N, ey, eh);
  fflush(stdout);
  return ok;
}

int main() {
  using bf = __nv_bfloat16;
  bool ok = true;
  ok &= run<bf, 128, 1, false>({1, 64, 1, 64, 1, 128, false, false, false});
  ok &= run<bf, 128, 1, true>({1, 64, 1, 64, 1, 128, false, false, false});
  ok &= run<bf, 128, 2, false>({1, 150, 3, 64, 1, 128, true, true, true});
  ok &= run<bf, 128, 2, true>({1, 150, 3, 64, 1, 128, true, true, true});
  ok &= run<bf, 128, 3, true>({2, 70, 4, 80, 2, 96, true, false, true});
  ok &= run<bf, 128, 3, false>({2, 70, 4, 80, 2, 96, true, false, true});
  ok &= run<__half, 64, 2, true>({1, 193, 2, 8, 2, 16, false, true, true});
  ok &= run<__half, 64, 1, false>({1, 193, 2, 32, 1, 64, false, true, true});
  ok &= run<bf, 64, 2, true>({1, 1, 2, 128, 1, 64, true, false, false});
  // Shares that split sequences: several a block, and several blocks a sequence.
  ok &= run<bf, 128, 2, true>({2, 200, 5, 64, 1, 128, true, false, true}, 4);
  ok &= run<bf, 128, 2, false>({2, 200, 5, 64, 1, 128, true, false, true}, 5);
  ok &= run<bf, 64, 1, true>({1, 500, 2, 64, 1, 64, false, false, true}, 5);
  // Cut in time.
  ok &= run<bf, 128, 2, true>({1, 500, 3, 64, 1, 128, true, true, true}, 0, 3);
  ok &= run<bf, 128, 2, false>({2, 333, 4, 80, 2, 96, true, false, false}, 0, 6);
  ok &= run<__half, 64, 2, true>({1, 300, 4, 128, 2, 16, false, false, true}, 0, 2);
  ok &= run<__half, 64, 2, false>({1, 40, 2, 8, 1, 64, false, false, true}, 0, 4);
  ok &= run<bf, 128, 2, true>({1, 900, 4, 64, 1, 128, true, false, true}, 3, 14);
  ok &= run<bf, 64, 2, false>({2, 700, 3, 128, 1, 64, false, true, true}, 5, 11);
  // Packed sequences, whole and cut in time; states of more than 128.
  ok &= run<bf, 128, 2, true>({2, 300, 3, 64, 1, 128, true, false, true, true});
  ok &= run<bf, 64, 2, false>({1, 333, 4, 80, 2, 48, true, true, true, true}, 3);
  ok &= run<__half, 128, 2, true>({1, 700, 3, 64, 1, 128, false, false, true, true}, 3, 11);
  ok &= run<bf, 128, 2, true>({1, 150, 3, 64, 1, 256, true, true, true}, 0, 0, 2);
  ok &= run<bf, 128, 2, false>({1, 200, 2, 80, 2, 200, true, false, true, true}, 0, 3, 2);
  return !ok;
}
