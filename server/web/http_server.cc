// The only file that sees Boost.Beast, which takes the compiler a minute.

#include "server/web/http_server.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/web/asio_executor.h"
#include "server/web/assets.h"
#include "server/web/event_hub.h"

namespace lockstep {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr uint32_t kMaxHeaderBytes = 8 << 10;
constexpr size_t kMaxBuffered = 64
                                << 10;   // read, but in no body yet: headers, chunks' and trailers
constexpr size_t kMaxDropped = 1 << 20;  // of a request that was refused
constexpr int kMaxConnections = 2048;
constexpr std::chrono::seconds kRequestTime{10};  // for a whole request, once it has begun
constexpr std::chrono::seconds kIdleTime{60};     // between requests
constexpr std::chrono::seconds kLingerTime{2};    // for a client to take its last answer
constexpr std::chrono::seconds kWriteTime{60};    // for each piece of an answer
constexpr int64_t kBlobPiece = 256 << 10;

constexpr std::string_view kContentSecurityPolicy =
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'";

absl::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

std::string_view ContentType(std::string_view path) {
  const std::string_view extension = path.substr(std::min(path.rfind('.'), path.size()));
  if (extension == ".html") return "text/html; charset=utf-8";
  if (extension == ".js") return "text/javascript; charset=utf-8";
  if (extension == ".css") return "text/css; charset=utf-8";
  if (extension == ".svg") return "image/svg+xml";
  return "application/octet-stream";
}

HttpAnswer TextAnswer(int status, std::string text) {
  HttpAnswer answer;
  answer.status = status;
  answer.content_type = "text/plain; charset=utf-8";
  answer.body = std::move(text);
  return answer;
}

HttpAnswer AssetAnswer(const HttpRequest& request) {
  const std::string path = absl::StrJoin(request.path, "/");
  const std::string_view wanted = path.empty() ? "index.html" : std::string_view(path);
  for (const Asset& asset : Assets()) {
    if (asset.path != wanted) continue;
    if (request.method != "GET") {
      return ErrorAnswer(absl::UnimplementedError("only GET is possible here"), 405);
    }
    HttpAnswer answer;
    answer.content_type = ContentType(asset.path);
    answer.body = asset.bytes;
    // The names under assets/ have a hash of the contents in them.
    const bool immutable = asset.path.starts_with("assets/");
    answer.headers.emplace_back("Cache-Control",
                                immutable ? "public, max-age=31536000, immutable" : "no-cache");
    return answer;
  }
  return ErrorAnswer(absl::NotFoundError("there is nothing here"));
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(Options options, Executor* executor)
      : options_(std::move(options)),
        executor_(*executor),
        access_(options_.token, options_.loopback) {}
  ~Impl() {
    Stop();
    api_.reset();  // waits for calls under way, which post to io_
    acceptor_.reset();
    io_.reset();  // ends the coroutines, which use what is below
  }

  absl::Status Listen();
  void Start(std::unique_ptr<Api> api);
  void Stop();
  int port() const { return port_; }

 private:
  using Parser = http::request_parser<http::string_body>;
  using Header = http::request_header<>;

  asio::awaitable<void> Accept();
  asio::awaitable<void> Serve(beast::tcp_stream stream);
  // Answers one request; false: the connection ends.
  asio::awaitable<bool> ServeOne(beast::tcp_stream& stream, beast::flat_buffer& buffer);
  // What the request is answered with before its body is read, if anything.
  std::optional<HttpAnswer> Refuse(const Header& header, HttpRequest* request) const;
  asio::awaitable<HttpAnswer> Answer(const Header& header, const HttpRequest& request);
  HttpAnswer LogIn(const HttpRequest& request) const;
  asio::awaitable<bool> Send(beast::tcp_stream& stream, HttpAnswer answer, bool head,
                             bool keep_alive);
  asio::awaitable<bool> SendBlob(beast::tcp_stream& stream, const BlobStore::Reader& blob);
  asio::awaitable<void> SendEvents(beast::tcp_stream& stream, EventStreamAnswer events);

  const Options options_;
  Executor& executor_;
  const Access access_;
  std::unique_ptr<Api> api_;
  int port_ = 0;
  int connections_ = 0;
  std::unique_ptr<EventHub> hub_;
  std::unique_ptr<asio::io_context> io_ = std::make_unique<asio::io_context>(1);
  std::unique_ptr<tcp::acceptor> acceptor_;
  std::thread thread_;
};

absl::Status HttpServer::Impl::Listen() {
  std::string host = options_.host;
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  error_code error;
  tcp::resolver resolver(*io_);
  const auto endpoints =
      resolver.resolve(host, std::to_string(options_.port), tcp::resolver::passive, error);
  if (!error) {
    const tcp::endpoint endpoint = *endpoints.begin();
    acceptor_ = std::make_unique<tcp::acceptor>(*io_);
    acceptor_->open(endpoint.protocol(), error);
    if (!error) acceptor_->set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_->bind(endpoint, error);
    if (!error) acceptor_->listen(asio::socket_base::max_listen_connections, error);
    if (!error) port_ = acceptor_->local_endpoint(error).port();
  }
  return error ? absl::UnavailableError(error.message()) : absl::OkStatus();
}

void HttpServer::Impl::Start(std::unique_ptr<Api> api) {
  api_ = std::move(api);
  hub_ = std::make_unique<EventHub>(*io_, executor_);
  asio::co_spawn(*io_, Accept(), asio::detached);
  thread_ = std::thread([this] { io_->run(); });
}

void HttpServer::Impl::Stop() {
  if (!thread_.joinable()) return;
  io_->stop();
  thread_.join();
}

asio::awaitable<void> HttpServer::Impl::Accept() {
  for (;;) {
    error_code error;
    tcp::socket socket =
        co_await acceptor_->async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (error) {
      // Out of descriptors, most likely: others will be given back.
      asio::steady_timer pause(*io_, std::chrono::milliseconds(100));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    if (connections_ >= kMaxConnections) continue;  // closes it
    socket.set_option(tcp::no_delay(true), error);
    ++connections_;
    asio::co_spawn(*io_, Serve(beast::tcp_stream(std::move(socket))),
                   [this](const std::exception_ptr&) { --connections_; });
  }
}

asio::awaitable<void> HttpServer::Impl::Serve(beast::tcp_stream stream) {
  beast::flat_buffer buffer(kMaxBuffered);
  while (co_await ServeOne(stream, buffer)) {
  }
  error_code error;
  stream.socket().shutdown(tcp::socket::shutdown_send, error);
  // Closed with something unread, a client would see its connection break instead of the answer.
  buffer.clear();
  stream.expires_after(kLingerTime);
  for (size_t dropped = 0; !error && dropped < kMaxDropped;) {
    dropped += co_await stream.async_read_some(buffer.prepare(1024),
                                               asio::redirect_error(asio::use_awaitable, error));
  }
}

asio::awaitable<bool> HttpServer::Impl::ServeOne(beast::tcp_stream& stream,
                                                 beast::flat_buffer& buffer) {
  error_code error;
  auto token = asio::redirect_error(asio::use_awaitable, error);
  Parser parser;
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(boost::none);  // bounded below, once the path is known
  if (buffer.size() == 0) {
    stream.expires_after(kIdleTime);
    buffer.commit(co_await stream.async_read_some(buffer.prepare(1024), token));
    if (error) co_return false;
  }
  stream.expires_after(kRequestTime);
  co_await http::async_read_header(stream, buffer, parser, token);
  if (error == http::error::header_limit) {
    HttpAnswer refusal = ErrorAnswer(absl::OutOfRangeError("the header is too large"), 431);
    co_return co_await Send(stream, std::move(refusal), false, false);
  }
  // What is no HTTP, other than an end between two requests.
  if (error && error != http::error::end_of_stream && error != http::error::partial_message &&
      error.category() == http::make_error_code(http::error::end_of_stream).category()) {
    HttpAnswer refusal = ErrorAnswer(absl::InvalidArgumentError(error.message()));
    co_return co_await Send(stream, std::move(refusal), false, false);
  }
  if (error) co_return false;

  HttpRequest request;
  const Header& header = parser.get();
  const bool head = header.method() == http::verb::head;
  std::optional<HttpAnswer> refused = Refuse(header, &request);
  if (!refused.has_value()) {
    const int64_t limit = Api::MaxBodyBytes(request);
    parser.body_limit(static_cast<uint64_t>(limit));
    if (parser.content_length().value_or(0) <= static_cast<uint64_t>(limit)) {
      if (View(header[http::field::expect]) == "100-continue") {
        constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
        co_await asio::async_write(stream, asio::buffer(kContinue), token);
      }
      co_await http::async_read(stream, buffer, parser, token);
    } else {
      error = http::error::body_limit;
    }
    if (error == http::error::body_limit) {
      refused = ErrorAnswer(
          absl::OutOfRangeError(absl::StrCat("the body is larger than ", limit, " bytes")), 413);
    } else if (error) {
      co_return false;
    }
  }
  if (refused.has_value()) {  // what is left of the request is not read
    co_await Send(stream, *std::move(refused), head, false);
    co_return false;
  }
  request.body = std::move(parser.get().body());
  HttpAnswer answer = co_await Answer(header, request);
  co_return co_await Send(stream, std::move(answer), head, parser.get().keep_alive());
}

std::optional<HttpAnswer> HttpServer::Impl::Refuse(const Header& header,
                                                   HttpRequest* request) const {
  const HttpCaller caller = {
      .host = View(header[http::field::host]),
      .origin = View(header[http::field::origin]),
      .fetch_site = View(header["Sec-Fetch-Site"]),
      .content_type = View(header[http::field::content_type]),
      .authorization = View(header[http::field::authorization]),
      .cookie = View(header[http::field::cookie]),
  };
  request->method = std::string(View(header.method_string()));
  if (header.method() == http::verb::head) request->method = "GET";
  if (absl::Status parsed = ParseTarget(View(header.target()), request); !parsed.ok()) {
    return ErrorAnswer(parsed);
  }
  if (!absl::SimpleAtoi(View(header["Last-Event-ID"]), &request->last_event_id) ||
      request->last_event_id < 0) {
    request->last_event_id = 0;
  }
  if (absl::Status host = access_.CheckHost(caller); !host.ok()) return ErrorAnswer(host);
  if (request->method != "GET") {
    if (absl::Status same = Access::CheckSameOrigin(caller); !same.ok()) return ErrorAnswer(same);
  }
  const std::string& first = request->path.front();
  const bool open = request->path == std::vector<std::string>{"api", "login"} ||
                    (first != "api" && first != "metrics");
  if (!open) {
    if (absl::Status known = access_.CheckToken(caller); !known.ok()) return ErrorAnswer(known);
  }
  return std::nullopt;
}

asio::awaitable<HttpAnswer> HttpServer::Impl::Answer(const Header& header,
                                                     const HttpRequest& request) {
  const std::string path = absl::StrJoin(request.path, "/");
  if (path == "healthz") co_return TextAnswer(200, "ok\n");
  if (path == "readyz") {
    const std::vector<std::string> missing = options_.not_ready();
    co_return missing.empty() ? TextAnswer(200, "ok\n")
                              : TextAnswer(503, absl::StrJoin(missing, "\n") + "\n");
  }
  if (path == "metrics") {
    const auto write = [this]() -> absl::StatusOr<std::string> { return options_.metrics(); };
    const absl::StatusOr<std::string> text = co_await RunOn(executor_, write);
    if (!text.ok()) co_return ErrorAnswer(text.status());
    HttpAnswer answer = TextAnswer(200, *text);
    answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
    co_return answer;
  }
  if (path == "api/login" && header.method() == http::verb::post) co_return LogIn(request);
  if (request.path.front() != "api") co_return AssetAnswer(request);
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(HttpAnswer)>(
      [this, &request](auto handler) {
        auto resume = std::make_shared<decltype(handler)>(std::move(handler));
        api_->Handle(request, [resume, io = io_.get()](HttpAnswer answer) {
          asio::post(*io, [resume, answer = std::move(answer)]() mutable {
            std::move (*resume)(std::move(answer));
          });
        });
      },
      asio::use_awaitable);
}

HttpAnswer HttpServer::Impl::LogIn(const HttpRequest& request) const {
  google::protobuf::Struct body;
  const auto read = google::protobuf::util::JsonStringToMessage(request.body, &body);
  const auto token = body.fields().find("token");
  if (!read.ok() || token == body.fields().end() || !token->second.has_string_value()) {
    return ErrorAnswer(absl::InvalidArgumentError("the body must be {\"token\": TEXT}"));
  }
  absl::StatusOr<std::string> cookie = access_.LogIn(token->second.string_value());
  if (!cookie.ok()) return ErrorAnswer(cookie.status());
  HttpAnswer answer;
  answer.body = "{}";
  answer.headers.emplace_back("Set-Cookie", *std::move(cookie));
  return answer;
}

asio::awaitable<bool> HttpServer::Impl::Send(beast::tcp_stream& stream, HttpAnswer answer,
                                             bool head, bool keep_alive) {
  http::response<http::string_body> response(static_cast<http::status>(answer.status), 11);
  if (answer.events.has_value()) keep_alive = false;
  response.keep_alive(keep_alive);
  response.set(http::field::content_type, answer.content_type);
  response.set(http::field::cache_control, "no-store");
  response.set("Content-Security-Policy", kContentSecurityPolicy);
  response.set("Cross-Origin-Opener-Policy", "same-origin");
  response.set("Cross-Origin-Resource-Policy", "same-origin");
  response.set("Referrer-Policy", "no-referrer");
  response.set("X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : answer.headers) response.set(name, value);
  if (answer.blob != nullptr) {
    response.content_length(static_cast<uint64_t>(answer.blob->size_bytes()));
  } else if (!answer.events.has_value()) {
    response.content_length(answer.body.size());
    if (!head) response.body() = std::move(answer.body);
  }

  error_code error;
  stream.expires_after(kWriteTime);
  http::response_serializer<http::string_body> serializer(response);
  if (answer.blob != nullptr || answer.events.has_value()) {
    co_await http::async_write_header(stream, serializer,
                                      asio::redirect_error(asio::use_awaitable, error));
  } else {
    co_await http::async_write(stream, serializer,
                               asio::redirect_error(asio::use_awaitable, error));
  }
  if (error) co_return false;
  if (head) co_return keep_alive;
  if (answer.blob != nullptr && !co_await SendBlob(stream, *answer.blob)) co_return false;
  if (answer.events.has_value()) co_await SendEvents(stream, *std::move(answer.events));
  co_return keep_alive;
}

asio::awaitable<bool> HttpServer::Impl::SendBlob(beast::tcp_stream& stream,
                                                 const BlobStore::Reader& blob) {
  for (int64_t offset = 0; offset < blob.size_bytes();) {
    const auto read = [&blob, offset] { return blob.Read(offset, kBlobPiece); };
    const absl::StatusOr<std::string> piece = co_await RunOn(executor_, read);
    if (!piece.ok() || piece->empty()) co_return false;
    error_code error;
    stream.expires_after(kWriteTime);
    co_await asio::async_write(stream, asio::buffer(*piece),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
    offset += static_cast<int64_t>(piece->size());
  }
  co_return true;
}

asio::awaitable<void> HttpServer::Impl::SendEvents(beast::tcp_stream& stream,
                                                   EventStreamAnswer events) {
  EventHub::Watch watch(*hub_, std::move(events));
  constexpr std::string_view kRetry = "retry: 1000\n\n";  // milliseconds after a connection broke
  error_code error;
  co_await asio::async_write(stream, asio::buffer(kRetry),
                             asio::redirect_error(asio::use_awaitable, error));
  for (bool end = false; !end && !error;) {
    const absl::StatusOr<EventHub::Piece> piece = co_await watch.Next();
    if (!piece.ok()) co_return;  // the watcher comes again, and hears why it cannot be had
    stream.expires_after(kWriteTime);
    co_await asio::async_write(stream, asio::buffer(*piece->text) + piece->offset,
                               asio::redirect_error(asio::use_awaitable, error));
    end = piece->end;
  }
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Listen(Options options,
                                                               Executor* executor) {
  auto impl = std::make_unique<Impl>(std::move(options), executor);
  if (absl::Status listening = impl->Listen(); !listening.ok()) return listening;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

int HttpServer::port() const { return impl_->port(); }
void HttpServer::Start(std::unique_ptr<Api> api) { impl_->Start(std::move(api)); }
void HttpServer::Stop() { impl_->Stop(); }

}  // namespace lockstep
