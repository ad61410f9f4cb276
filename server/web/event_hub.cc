#include "server/web/event_hub.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/web/asio_executor.h"

namespace lockstep {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

constexpr int kBatch = 256;  // events read at a time
// Of what is new in a log.
constexpr Clock::duration kPause = std::chrono::milliseconds(200);
constexpr Clock::duration kKeepAlive = std::chrono::seconds(15);
// For watchers that are a little behind.
constexpr size_t kRecentBytes = 256 << 10;

// Some events of a log, one after the other.
struct Chunk {
  int64_t first = 0;
  int64_t next = 0;        // the event after the last one
  int64_t least_step = 0;  // of its step records
  std::string text;
  std::vector<size_t> begins;  // where in the text each event begins, then what follows them
  bool end = false;
};

absl::StatusOr<std::shared_ptr<const Chunk>> ReadChunk(const EventLog& log, int64_t first,
                                                       int64_t steps_after) {
  absl::StatusOr<EventLog::Batch> batch = log.Read(first, kBatch);
  if (!batch.ok()) return batch.status();
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  auto chunk = std::make_shared<Chunk>();
  chunk->first = first;
  chunk->next = first + static_cast<int64_t>(batch->events.size());
  chunk->least_step = std::numeric_limits<int64_t>::max();
  chunk->end = batch->end;
  std::string json;
  for (const v1::Event& event : batch->events) {
    chunk->begins.push_back(chunk->text.size());
    if (event.has_step()) {
      chunk->least_step = std::min(chunk->least_step, event.step().step());
      if (event.step().step() <= steps_after) continue;
    }
    json.clear();
    const auto written = google::protobuf::util::MessageToJsonString(event, &json, options);
    if (!written.ok()) return absl::InternalError(written.ToString());
    absl::StrAppend(&chunk->text, "id: ", event.sequence(), "\ndata: ", json, "\n\n");
  }
  chunk->begins.push_back(chunk->text.size());
  if (chunk->end) chunk->text += "event: end\ndata: {}\n\n";
  return chunk;
}

// The part of a chunk from one of its events on.
EventHub::Piece From(const std::shared_ptr<const Chunk>& chunk, int64_t sequence) {
  const size_t offset = chunk->begins[static_cast<size_t>(sequence - chunk->first)];
  return {std::shared_ptr<const std::string>(chunk, &chunk->text), offset, chunk->end};
}

}  // namespace

// What is new in one log, while anybody watches it.
class EventHub::Topic : public std::enable_shared_from_this<Topic> {
 public:
  Topic(EventHub& hub, std::shared_ptr<EventLog> log)
      : hub_(hub),
        log_(std::move(log)),
        next_(log_->last_sequence() + 1),
        due_(hub.io_),
        news_(hub.io_) {}
  ~Topic() {
    if (ticket_ != 0) log_->CancelNotify(ticket_);
    hub_.topics_.erase(log_.get());
  }

  // Waits for news in the log. Call again after each.
  void Listen() {
    ticket_ = log_->NotifyFrom(next_, [topic = weak_from_this(), &io = hub_.io_] {
      asio::post(io, [topic] {
        if (const std::shared_ptr<Topic> self = topic.lock()) self->OnNews();
      });
    });
  }

  // The first event that is not in a chunk yet.
  int64_t next() const { return next_; }
  const absl::Status& status() const { return status_; }

  // Null when it is not there (any more).
  std::shared_ptr<const Chunk> Find(int64_t sequence) const {
    for (const std::shared_ptr<const Chunk>& chunk : recent_) {
      const bool last = chunk->end && sequence == chunk->next;
      if (last || (chunk->first <= sequence && sequence < chunk->next)) return chunk;
    }
    return nullptr;
  }

  // True: there is news. False: nothing came for some time.
  asio::awaitable<bool> Wait() {
    if (news_.expiry() <= Clock::now()) news_.expires_after(kKeepAlive);
    boost::system::error_code error;
    co_await news_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    co_return error == asio::error::operation_aborted;
  }

 private:
  void OnNews() {
    due_.expires_at(std::max(Clock::now(), last_read_ + kPause));
    due_.async_wait([topic = weak_from_this()](boost::system::error_code error) {
      const std::shared_ptr<Topic> self = topic.lock();
      if (self == nullptr || error) return;
      self->last_read_ = Clock::now();
      asio::co_spawn(self->hub_.io_, self->Read(), asio::detached);
    });
  }

  asio::awaitable<void> Read() {
    const std::shared_ptr<Topic> self = shared_from_this();
    const auto read = [log = log_, next = next_] {
      return ReadChunk(*log, next, /*steps_after=*/0);
    };
    auto chunk = co_await RunOn(hub_.executor_, read);
    if (chunk.ok()) {
      recent_.push_back(*chunk);
      recent_bytes_ += (*chunk)->text.size();
      while (recent_bytes_ > kRecentBytes && recent_.size() > 1) {
        recent_bytes_ -= recent_.front()->text.size();
        recent_.pop_front();
      }
      next_ = (*chunk)->next;
      if (next_ - (*chunk)->first == kBatch) last_read_ = {};  // there is more: no pause
    } else if (!absl::IsResourceExhausted(chunk.status())) {
      status_ = chunk.status();
    }
    news_.expires_after(kKeepAlive);  // wakes all who wait
    if (status_.ok() && (!chunk.ok() || !(*chunk)->end)) Listen();
  }

  EventHub& hub_;
  const std::shared_ptr<EventLog> log_;
  int64_t next_;
  int64_t ticket_ = 0;
  absl::Status status_;
  std::deque<std::shared_ptr<const Chunk>> recent_;  // without holes, up to next_
  size_t recent_bytes_ = 0;
  Clock::time_point last_read_{};
  asio::steady_timer due_;   // when the log is read
  asio::steady_timer news_;  // cancelled when there is news
};

EventHub::Watch::Watch(EventHub& hub, EventStreamAnswer from)
    : hub_(hub),
      log_(std::move(from.log)),
      next_(from.first),
      steps_after_(from.steps_after),
      topic_(hub.TopicOf(log_)) {}

asio::awaitable<absl::StatusOr<EventHub::Piece>> EventHub::Watch::Next() {
  for (;;) {
    if (!topic_->status().ok()) co_return topic_->status();
    const std::shared_ptr<const Chunk> news = topic_->Find(next_);
    if (news != nullptr && news->least_step > steps_after_) {
      Piece piece = From(news, next_);
      next_ = news->next;
      co_return piece;
    }
    if (next_ >= topic_->next()) {
      if (co_await topic_->Wait()) continue;
      Piece comment = {std::make_shared<const std::string>(":\n\n")};
      co_return comment;
    }
    const auto read = [log = log_, first = next_, after = steps_after_] {
      return ReadChunk(*log, first, after);
    };
    const auto chunk = co_await RunOn(hub_.executor_, read);
    if (!chunk.ok()) co_return chunk.status();
    next_ = (*chunk)->next;
    if ((*chunk)->text.empty()) continue;
    Piece piece = From(*chunk, (*chunk)->first);
    co_return piece;
  }
}

std::shared_ptr<EventHub::Topic> EventHub::TopicOf(const std::shared_ptr<EventLog>& log) {
  std::weak_ptr<Topic>& known = topics_[log.get()];
  if (std::shared_ptr<Topic> topic = known.lock()) return topic;
  auto topic = std::make_shared<Topic>(*this, log);
  known = topic;
  topic->Listen();
  return topic;
}

}  // namespace lockstep
