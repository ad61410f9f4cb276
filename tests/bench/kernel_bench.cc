// Measures the kernels on one core against this machine's peaks and, where it is built with oneDNN
// (Debian's libdnnl-dev), against that: all take turns in the same run, a figure is the median over
// the turns. Prints tables, or one JSON line a figure.
//
//   lockstep_kernel_bench [--json] [--turns 7] [--only TEXT]
//
// TEXT picks the cases whose name contains it.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/kernels/kernels.h"
#include "core/kernels/peaks.h"
#include "core/numerics/float_environment.h"
#include "tests/bench/kernel_cases.h"

namespace lockstep {
namespace {

using kernels::KernelTable;

// Working sets that a level of the memory holds.
constexpr std::pair<const char*, int64_t> kLevels[] = {{"L2", 512 << 10}, {"memory", 64 << 20}};

constexpr double kLeastSeconds = 0.005;  // of one measurement

struct Options {
  bool json = false;
  int turns = 7;
  std::string only;
};

double Seconds(const Call& call, int64_t repetitions) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < repetitions; ++i) call();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return elapsed.count() / static_cast<double>(repetitions);
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// One case's contestants: the median seconds of each, and of ours' speed relative to each.
struct Race {
  std::vector<double> seconds;
  std::vector<double> ratio;  // time of a contestant / time of the first
};

Race Run(const std::vector<Call>& calls, int turns) {
  std::vector<int64_t> repetitions;
  for (const Call& call : calls) {
    call();
    repetitions.push_back(1 + static_cast<int64_t>(kLeastSeconds / Seconds(call, 1)));
  }
  std::vector<std::vector<double>> seconds(calls.size()), ratio(calls.size());
  for (int turn = 0; turn < turns; ++turn) {
    for (size_t i = 0; i < calls.size(); ++i) {
      seconds[i].push_back(Seconds(calls[i], repetitions[i]));
      ratio[i].push_back(seconds[i].back() / seconds[0].back());
    }
  }
  Race race;
  for (size_t i = 0; i < calls.size(); ++i) {
    race.seconds.push_back(Median(seconds[i]));
    race.ratio.push_back(Median(ratio[i]));
  }
  return race;
}

class GeometricMean {
 public:
  void Add(double value) {
    log_ += std::log(value);
    ++count_;
  }
  double value() const { return count_ == 0 ? 0.0 : std::exp(log_ / count_); }

 private:
  double log_ = 0;
  int count_ = 0;
};

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {
    for (const KernelTable* const* t = kernels::AllKernels(); *t != nullptr; ++t) {
      tables_.insert(tables_.begin(), *t);  // the widest first
    }
  }

  int Main() {
    MeasurePeaks();
    Gemms();
    Convs();
    Streams();
    return 0;
  }

 private:
  bool Skips(const std::string& name) const {
    return name.find(options_.only) == std::string::npos;
  }

  void MeasurePeaks() {
    const double flops = BurnMultiplyAdds();
    peak_gflops_ = flops / Run({BurnMultiplyAdds}, options_.turns).seconds[0] / 1e9;
    std::printf(options_.json ? "{\"peak\": \"fma\", \"gflops\": %.1f}\n"
                              : "peak of fused multiply-adds: %.1f GFLOP/s\n",
                peak_gflops_);
    for (const auto& [name, bytes] : kLevels) {
      const int64_t n = bytes / static_cast<int64_t>(sizeof(float)) / 2;
      const auto from = RandomFloats(n), to = RandomFloats(n);
      const Race race = Run({[=] { ReadFloats(from.get(), n); },
                             [=] { std::memcpy(to.get(), from.get(), n * sizeof(float)); }},
                            options_.turns);
      const double half = static_cast<double>(bytes) / 2;
      std::printf(options_.json ? "{\"peak\": \"%s\", \"read_gb_per_s\": %.1f, "
                                  "\"copy_gb_per_s\": %.1f}\n"
                                : "%s: read %.1f GB/s, copy %.1f GB/s (read and written)\n",
                  name, half / race.seconds[0] / 1e9, 2 * half / race.seconds[1] / 1e9);
    }
  }

  void Header(const char* title, const std::vector<std::string>& peers) {
    if (options_.json) return;
    std::printf("\n%-34s", title);
    for (const KernelTable* t : tables_) std::printf(" %9s", t->name);
    for (const std::string& p : peers) std::printf(" %11s", p.c_str());
    std::printf("   GFLOP/s | of peak | ours to each\n");
  }

  // Measures one case and adds its ratios to `means`, one a contestant after ours.
  double Case(const std::string& name, double flops, const std::vector<Call>& calls,
              std::vector<GeometricMean>& means) {
    const Race race = Run(calls, options_.turns);
    means.resize(calls.size());
    const double share = flops / race.seconds[0] / 1e9 / peak_gflops_;
    if (options_.json) {
      std::printf("{\"case\": \"%s\", \"gflops\": [", name.c_str());
      for (size_t i = 0; i < calls.size(); ++i) {
        std::printf("%s%.1f", i == 0 ? "" : ", ", flops / race.seconds[i] / 1e9);
      }
      std::printf("], \"of_peak\": %.3f, \"ratios\": [", share);
      for (size_t i = 1; i < calls.size(); ++i) {
        std::printf("%s%.3f", i == 1 ? "" : ", ", race.ratio[i]);
      }
      std::printf("]}\n");
    } else {
      std::printf("%-34s", name.c_str());
      for (double seconds : race.seconds) std::printf(" %9.1f", flops / seconds / 1e9);
      std::printf(" | %4.0f %% |", 100 * share);
      for (size_t i = 1; i < calls.size(); ++i) std::printf(" %.2f", race.ratio[i]);
      std::printf("\n");
    }
    std::fflush(stdout);
    for (size_t i = 1; i < calls.size(); ++i) means[i].Add(race.ratio[i]);
    return flops / race.seconds[0] / 1e9;
  }

  void PrintMeans(const char* what, const std::vector<GeometricMean>& means) {
    std::printf(options_.json ? "{\"geometric_means\": \"%s\", \"ratios\": [" : "%-34s means |",
                what);
    for (size_t i = 1; i < means.size(); ++i) {
      std::printf(options_.json && i > 1 ? ", %.3f" : " %.3f", means[i].value());
    }
    std::printf(options_.json ? "]}\n" : "\n");
  }

  void Gemms() {
    static constexpr int64_t kShapes[][3] = {{128, 64, 784},     {32, 64, 784},   {128, 10, 64},
                                             {1024, 1024, 1024}, {21632, 32, 9},  {7744, 64, 288},
                                             {16384, 16, 144},   {8192, 32, 288}, {4096, 64, 576}};
    static constexpr const char* kNames[] = {"NN", "NT", "TN"};
    Header("GEMM m x n x k", {PeerName()});
    std::vector<GeometricMean> means;
    for (GemmKind kind : {GemmKind::kNN, GemmKind::kNT, GemmKind::kTN}) {
      for (const auto& s : kShapes) {
        // A layer's three products share their sizes, in other roles.
        const GemmCase c = kind == GemmKind::kNN   ? GemmCase{kind, s[0], s[1], s[2]}
                           : kind == GemmKind::kNT ? GemmCase{kind, s[0], s[2], s[1]}
                                                   : GemmCase{kind, s[2], s[1], s[0]};
        char name[64];
        std::snprintf(name, sizeof name, "%s %ld x %ld x %ld", kNames[static_cast<int>(kind)], c.m,
                      c.n, c.k);
        if (Skips(name)) continue;
        std::vector<Call> calls;
        for (const KernelTable* t : tables_) calls.push_back(OurGemm(*t, c));
        if (*PeerName() != 0) calls.push_back(PeerGemm(c));
        Case(name, c.flops(), calls, means);
      }
    }
    PrintMeans("GEMM", means);
  }

  void Convs() {
    // The last figure: how often ResNet-20 has it, the first nine layers' sizes being its own.
    static constexpr struct {
      ConvCase conv;
      int in_resnet20;
    } kCases[] = {
        {{128, 32, 16, 16, 3, 1, 1}, 6}, {{128, 16, 32, 32, 3, 1, 1}, 5},
        {{128, 8, 64, 64, 3, 1, 1}, 5},  {{128, 32, 16, 32, 3, 2, 1}, 1},
        {{128, 16, 32, 64, 3, 2, 1}, 1}, {{128, 28, 1, 32, 3, 1, 0}, 0},
        {{128, 13, 32, 64, 3, 1, 0}, 0}, {{128, 32, 3, 16, 3, 1, 1}, 1},
    };
    static constexpr const char* kPasses[] = {"fwd", "bwdD", "bwdW"};
    Header("convolution, batch 128", {std::string(PeerName()), std::string(PeerName()) + "-nhwc"});
    std::vector<GeometricMean> means;
    double flops = 0, seconds = 0;
    for (const auto& [c, in_resnet20] : kCases) {
      for (ConvPass pass :
           {ConvPass::kForward, ConvPass::kInputGradient, ConvPass::kWeightGradient}) {
        if (pass == ConvPass::kInputGradient && c.in < 16) continue;  // a network's first layer
        char name[64];
        std::snprintf(name, sizeof name, "%2ldx%2ld %ld->%ld s%ld p%ld %s", c.size, c.size, c.in,
                      c.filters, c.stride, c.pad, kPasses[static_cast<int>(pass)]);
        if (Skips(name)) continue;
        std::vector<Call> calls;
        for (const KernelTable* t : tables_) calls.push_back(OurConv(*t, c, pass));
        if (*PeerName() != 0) {
          for (bool channels_last : {false, true}) {
            calls.push_back(PeerConv(c, pass, channels_last));
          }
        }
        const double gflops = Case(name, c.flops(), calls, means);
        flops += in_resnet20 * c.flops();
        seconds += in_resnet20 * c.flops() / (gflops * 1e9);
      }
    }
    PrintMeans("convolution", means);
    const double share = flops / seconds / 1e9 / peak_gflops_;
    std::printf(options_.json ? "{\"resnet20\": \"convolutions\", \"gflops\": %.1f, "
                                "\"of_peak\": %.3f}\n"
                              : "ResNet-20's convolutions: %.1f GFLOP/s, %.3f of peak\n",
                flops / seconds / 1e9, share);
  }

  // Kernels that stream over [rows, channels] in L2: GB/s of what they must read and write.
  void Streams() {
    if (!options_.json) {
      std::printf("\n%-44s", "streams in L2");
      for (const KernelTable* t : tables_) std::printf(" %9s", t->name);
      std::printf("    memcpy   GB/s\n");
    }
    constexpr int64_t kFloats = 64 << 10;
    const auto x = RandomFloats(kFloats), y = RandomFloats(kFloats), v = RandomFloats(4096);
    const auto out = RandomFloats(kFloats), sums = RandomFloats(4096);
    const Call copy = [=] { std::memcpy(out.get(), x.get(), kFloats * sizeof(float)); };
    for (int64_t channels : {16, 32, 64, 10, 100}) {
      const int64_t rows = kFloats / channels;
      const auto blocks = [=](auto body) {
        for (int64_t r = 0; r < rows; r += kernels::kBlockRows) {
          body(r * channels, std::min(kernels::kBlockRows, rows - r));
        }
      };
      const float* m = v.get();
      float* s = sums.get();
      const struct {
        const char* name;
        int streams;  // of floats, read or written
        std::function<void(const KernelTable&)> run;
      } cases[] = {
          {"block_moments", 1,
           [=](const KernelTable& t) {
             blocks([&](int64_t i, int64_t n) {
               t.block_moments(x.get() + i, n, channels, s, s + channels);
             });
           }},
          {"block_sums of dy and dy * (x - m)", 2,
           [=](const KernelTable& t) {
             blocks([&](int64_t i, int64_t n) {
               t.block_sums(y.get() + i, x.get() + i, {m}, n, channels, s, s + channels);
             });
           }},
          {"normalize", 2,
           [=](const KernelTable& t) {
             t.normalize(x.get(), rows, channels, {m, m + 1024, m + 2048}, false, out.get());
           }},
          {"normalize_backward", 3,
           [=](const KernelTable& t) {
             t.normalize_backward(y.get(), x.get(), rows, channels, {m}, m + 512, m + 1024,
                                  m + 2048, out.get());
           }},
          {"add", 3,
           [=](const KernelTable& t) {
             t.add(rows * channels, x.get(), y.get(), false, out.get());
           }},
          {"relu", 2,
           [=](const KernelTable& t) {
             t.activate({kernels::Activation::kRelu}, rows, channels, x.get(), out.get());
           }},
          {"relu backward", 3,
           [=](const KernelTable& t) {
             t.activate_backward({kernels::Activation::kRelu}, rows, channels, x.get(), out.get(),
                                 out.get());
           }},
      };
      for (const auto& c : cases) {
        char name[64];
        std::snprintf(name, sizeof name, "%s, C = %ld", c.name, channels);
        if (Skips(name)) continue;
        std::vector<Call> calls;
        for (const KernelTable* t : tables_) calls.push_back([&c, t] { c.run(*t); });
        calls.push_back(copy);
        const Race race = Run(calls, options_.turns);
        const double bytes = static_cast<double>(rows * channels * 4);
        std::printf(options_.json ? "{\"stream\": \"%s\", \"gb_per_s\": [" : "%-44s", name);
        for (size_t i = 0; i < calls.size(); ++i) {
          const double streams = i + 1 == calls.size() ? 2 : c.streams;
          const char* format = !options_.json ? " %9.1f" : i == 0 ? "%.1f" : ", %.1f";
          std::printf(format, streams * bytes / race.seconds[i] / 1e9);
        }
        std::printf(options_.json ? "]}\n" : "\n");
      }
    }
  }

  const Options options_;
  std::vector<const KernelTable*> tables_;
  double peak_gflops_ = 0;
};

int Main(int argc, char** argv) {
  // oneDNN reads it when it is loaded; this is a measurement of one core.
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    setenv("OMP_NUM_THREADS", "1", 1);
    execv("/proc/self/exe", argv);
  }
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--json") {
      options.json = true;
    } else if (name == "--turns" && i + 1 < argc) {
      options.turns = std::max(1, std::atoi(argv[++i]));
    } else if (name == "--only" && i + 1 < argc) {
      options.only = argv[++i];
    } else {
      std::fprintf(stderr, "usage: lockstep_kernel_bench [--json] [--turns N] [--only TEXT]\n");
      return 2;
    }
  }
  ResetFloatEnvironment();
  if (kernels::Kernels() == nullptr) {
    std::fprintf(stderr, "lockstep_kernel_bench: this CPU has no AVX2 and FMA\n");
    return 1;
  }
  if (*PeerName() == 0) {
    std::fprintf(stderr, "built without oneDNN (libdnnl-dev): nothing to compare with\n");
  }
  return Bench(options).Main();
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::Main(argc, argv); }
