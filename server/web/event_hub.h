#ifndef LOCKSTEP_SERVER_WEB_EVENT_HUB_H_
#define LOCKSTEP_SERVER_WEB_EVENT_HUB_H_

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/api/executor.h"
#include "server/events/event_log.h"
#include "server/web/http_message.h"

namespace lockstep {

// Events as text for Server-Sent Events (id, data with the event's JSON; at the log's end the event
// "end"), for any number of watchers of any number of logs. What is new in a log is read and
// written out once for all who have come that far, five times a second at most, so a thousand
// watchers cost little more than their sockets. Who is behind reads the log alone; who does not
// read costs nothing. All of it happens in the io_context's one thread.
class EventHub {
 public:
  // Both must outlive it, the executor's tasks the io_context.
  EventHub(boost::asio::io_context& io, Executor& executor) : io_(io), executor_(executor) {}

  // Text made once for several watchers, and the part of it for one.
  struct Piece {
    std::shared_ptr<const std::string> text;
    size_t offset = 0;
    bool end = false;  // nothing comes after it
  };

  class Topic;
  // Where a watcher is in a log. Must not outlive the hub.
  class Watch {
   public:
    Watch(EventHub& hub, EventStreamAnswer from);
    // What comes next, as soon as there is something; after 15 s without, a comment, so that both
    // ends see that the other is there.
    boost::asio::awaitable<absl::StatusOr<Piece>> Next();

   private:
    EventHub& hub_;
    std::shared_ptr<EventLog> log_;
    int64_t next_;  // event
    const int64_t steps_after_;
    const std::shared_ptr<Topic> topic_;
  };

 private:
  std::shared_ptr<Topic> TopicOf(const std::shared_ptr<EventLog>& log);

  boost::asio::io_context& io_;
  Executor& executor_;
  std::map<const EventLog*, std::weak_ptr<Topic>> topics_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WEB_EVENT_HUB_H_
