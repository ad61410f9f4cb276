#include "tests/bench/kernel_cases.h"

#ifdef LOCKSTEP_ONEDNN
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "oneapi/dnnl/dnnl.hpp"

namespace lockstep {
namespace {

using dnnl::memory;
using Arguments = std::unordered_map<int, memory>;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory MakeMemory(const memory::desc& desc) {
  memory m(desc, Engine());
  const int64_t floats = static_cast<int64_t>(desc.get_size() / sizeof(float));
  std::copy_n(RandomFloats(floats).get(), floats, static_cast<float*>(m.get_data_handle()));
  return m;
}

Call MakeCall(dnnl::primitive primitive, Arguments arguments) {
  return [primitive = std::move(primitive), arguments = std::move(arguments),
          stream = dnnl::stream(Engine())]() mutable {
    primitive.execute(stream, arguments);
    stream.wait();
  };
}

}  // namespace

const char* PeerName() { return "oneDNN"; }

Call PeerGemm(const GemmCase& c) {
  using Tag = memory::format_tag;
  const auto desc = [](int64_t rows, int64_t columns, bool transposed) {
    return memory::desc({rows, columns}, memory::data_type::f32, transposed ? Tag::ba : Tag::ab);
  };
  const memory::desc a = desc(c.m, c.k, c.kind == GemmKind::kTN);
  const memory::desc b = desc(c.k, c.n, c.kind == GemmKind::kNT);
  const memory::desc y = desc(c.m, c.n, false);
  const dnnl::matmul::primitive_desc primitive(dnnl::matmul::desc(a, b, y), Engine());
  return MakeCall(dnnl::matmul(primitive), {{DNNL_ARG_SRC, MakeMemory(a)},
                                            {DNNL_ARG_WEIGHTS, MakeMemory(b)},
                                            {DNNL_ARG_DST, MakeMemory(y)}});
}

Call PeerConv(const ConvCase& c, ConvPass pass, bool channels_last) {
  using Tag = memory::format_tag;
  const auto desc = [&](memory::dims dims, Tag tag) {
    return memory::desc(std::move(dims), memory::data_type::f32, channels_last ? tag : Tag::any);
  };
  const memory::desc x = desc({c.batch, c.in, c.size, c.size}, Tag::nhwc);
  const memory::desc w =
      memory::desc({c.filters, c.in, c.kernel, c.kernel}, memory::data_type::f32, Tag::any);
  const memory::desc y = desc({c.batch, c.filters, c.out(), c.out()}, Tag::nhwc);
  const memory::dims strides = {c.stride, c.stride}, before = {c.pad, c.pad};
  const int64_t pad_after = c.padded() - c.size - c.pad;
  const memory::dims after = {pad_after, pad_after};
  constexpr auto kDirect = dnnl::algorithm::convolution_direct;
  const dnnl::convolution_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, kDirect, x, w, y, strides, before, after}, Engine());
  switch (pass) {
    case ConvPass::kForward:
      return MakeCall(dnnl::convolution_forward(forward),
                      {{DNNL_ARG_SRC, MakeMemory(forward.src_desc())},
                       {DNNL_ARG_WEIGHTS, MakeMemory(forward.weights_desc())},
                       {DNNL_ARG_DST, MakeMemory(forward.dst_desc())}});
    case ConvPass::kInputGradient: {
      const dnnl::convolution_backward_data::primitive_desc p(
          {kDirect, x, w, y, strides, before, after}, Engine(), forward);
      return MakeCall(dnnl::convolution_backward_data(p),
                      {{DNNL_ARG_DIFF_SRC, MakeMemory(p.diff_src_desc())},
                       {DNNL_ARG_WEIGHTS, MakeMemory(p.weights_desc())},
                       {DNNL_ARG_DIFF_DST, MakeMemory(p.diff_dst_desc())}});
    }
    case ConvPass::kWeightGradient: {
      const dnnl::convolution_backward_weights::primitive_desc p(
          {kDirect, x, w, y, strides, before, after}, Engine(), forward);
      return MakeCall(dnnl::convolution_backward_weights(p),
                      {{DNNL_ARG_SRC, MakeMemory(p.src_desc())},
                       {DNNL_ARG_DIFF_WEIGHTS, MakeMemory(p.diff_weights_desc())},
                       {DNNL_ARG_DIFF_DST, MakeMemory(p.diff_dst_desc())}});
    }
  }
  return nullptr;
}

}  // namespace lockstep

#else

namespace lockstep {

const char* PeerName() { return ""; }
Call PeerGemm(const GemmCase&) { return nullptr; }
Call PeerConv(const ConvCase&, ConvPass, bool) { return nullptr; }

}  // namespace lockstep

#endif
