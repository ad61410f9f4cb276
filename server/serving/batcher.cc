#include "server/serving/batcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lockstep {
namespace {

int64_t Bytes(const std::vector<std::span<const std::byte>>& inputs) {
  int64_t bytes = 0;
  for (const std::span<const std::byte> input : inputs) bytes += std::ssize(input);
  return bytes;
}

}  // namespace

Batcher::Batcher(const InferenceModel* network, const Options& options)
    : network_(network),
      options_(options),
      input_size_(RowSize(network->inputs())),
      output_size_(RowSize(network->outputs())),
      thread_([this] { Run(); }) {}

Batcher::~Batcher() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void Batcher::Submit(Request request) {
  const int64_t bytes = Bytes(request.x);
  absl::Status refusal;
  {
    absl::MutexLock lock(&mutex_);
    const int64_t waiting = static_cast<int64_t>(queue_.size());
    if (waiting >= options_.max_queued_requests) {
      refusal = absl::ResourceExhaustedError(absl::StrCat(
          "the model's queue is full: ", waiting, " requests are waiting; try again later"));
    } else if (waiting > 0 && bytes > options_.max_queued_bytes - queued_bytes_) {
      refusal = absl::ResourceExhaustedError(
          absl::StrCat("the model's queue is full: ", queued_bytes_, " bytes are waiting and ",
                       bytes, " more would pass ", options_.max_queued_bytes, "; try again later"));
    } else {
      queued_bytes_ += bytes;
      queue_.push_back({.request = std::move(request), .since = absl::Now()});
      return;
    }
  }
  std::move(request.done)(std::move(refusal));
}

bool Batcher::Admit(std::vector<Running>& running) {
  int64_t samples = 0;
  for (const Running& one : running) samples += one.samples_left();
  absl::MutexLock lock(&mutex_);
  if (running.empty()) mutex_.Await(absl::Condition(this, &Batcher::HasWork));
  while (!queue_.empty() && samples < options_.max_batch_samples) {
    Waiting& next = queue_.front();
    options_.metrics->InferenceWaited(absl::Now() - next.since);
    queued_bytes_ -= Bytes(next.request.x);
    samples += next.request.samples;
    running.emplace_back(std::move(next.request));
    queue_.pop_front();
  }
  return !running.empty();
}

void Batcher::Run() {
  InferenceModel::Arena arena;
  std::vector<Running> running;
  std::vector<float> x;
  std::vector<float> y;
  while (Admit(running)) {
    DropUnwanted(running);
    const int64_t rows = Gather(running, x);
    y.resize(rows * output_size_);
    if (rows > 0) {
      options_.metrics->InferencePass(rows);
      network_->Predict(rows, x, y, arena);
    }
    Scatter(y, running);
  }
}

void Batcher::DropUnwanted(std::vector<Running>& running) {
  std::vector<Running> kept;
  for (Running& one : running) {
    absl::Status wanted = one.request.wanted();
    if (wanted.ok()) {
      kept.push_back(std::move(one));
    } else {
      std::move(one.request.done)(std::move(wanted));
    }
  }
  running = std::move(kept);
}

int64_t Batcher::Gather(std::vector<Running>& running, std::vector<float>& x) const {
  int64_t rows = 0;
  for (Running& one : running) {
    one.rows = std::min(one.samples_left(), options_.max_batch_samples - rows);
    rows += one.rows;
  }
  x.resize(rows * input_size_);
  std::byte* to = reinterpret_cast<std::byte*>(x.data());
  for (const Running& one : running) {
    std::byte* column = to;
    for (size_t i = 0; i < one.request.x.size(); ++i) {
      const size_t bytes = network_->inputs()[i].size * sizeof(float);
      for (int64_t row = 0; row < one.rows; ++row) {
        const auto from = one.request.x[i].subspan((one.samples_done + row) * bytes, bytes);
        std::ranges::copy(from, column + row * input_size_ * sizeof(float));
      }
      column += bytes;
    }
    to += one.rows * input_size_ * sizeof(float);
  }
  return rows;
}

void Batcher::Scatter(std::span<const float> y, std::vector<Running>& running) const {
  std::vector<Running> unfinished;
  for (Running& one : running) {
    const auto rows = y.first(one.rows * output_size_);
    y = y.subspan(rows.size());
    one.y.insert(one.y.end(), rows.begin(), rows.end());
    one.samples_done += one.rows;
    if (one.samples_left() > 0) {
      unfinished.push_back(std::move(one));
    } else {
      std::move(one.request.done)(std::move(one.y));
    }
  }
  running = std::move(unfinished);
}

}  // namespace lockstep
