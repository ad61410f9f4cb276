#include "client/cli/json_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace lockstep {
namespace {

constexpr int kDeepest = 100;

// protobuf takes both spellings of a field; messages use this one.
std::string SnakeCase(std::string_view name) {
  std::string snake;
  for (char c : name) {
    if (std::isupper(static_cast<unsigned char>(c))) {
      snake += '_';
      snake += static_cast<char>(std::tolower(c));
    } else {
      snake += c;
    }
  }
  return snake;
}

class Scanner {
 public:
  Scanner(std::string_view text, std::map<std::string, int, std::less<>>* lines)
      : text_(text), lines_(lines) {}

  absl::Status Document() {
    if (absl::Status value = Value("", 0); !value.ok()) return value;
    SkipSpace();
    return at_ == text_.size() ? absl::OkStatus() : Error("nothing more may follow");
  }

 private:
  absl::Status Error(std::string_view what) const {
    int line = 1, column = 1;
    for (char c : text_.substr(0, at_)) {
      column = c == '\n' ? 1 : column + 1;
      line += c == '\n';
    }
    return absl::InvalidArgumentError(fmt::format("line {}, column {}: {}", line, column, what));
  }

  int Line() {
    for (; counted_ < at_; ++counted_) line_ += text_[counted_] == '\n';
    return line_;
  }

  void SkipSpace() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }

  bool Take(char c) {
    SkipSpace();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  absl::Status Value(const std::string& path, int depth) {
    if (depth > kDeepest) return Error("nested too deeply");
    SkipSpace();
    if (at_ == text_.size()) return Error("the file ends where a value is due");
    switch (text_[at_]) {
      case '{':
        return Object(path, depth);
      case '[':
        return Array(path, depth);
      case '"':
        return String(nullptr);
      default:
        return Word();
    }
  }

  absl::Status Object(const std::string& path, int depth) {
    Take('{');
    if (Take('}')) return absl::OkStatus();
    do {
      SkipSpace();
      const int line = Line();
      std::string name;
      if (at_ == text_.size() || text_[at_] != '"') return Error("a member's name in \"\" is due");
      const size_t start = at_;
      if (absl::Status string = String(&name); !string.ok()) return string;
      const std::string member = path.empty() ? SnakeCase(name) : path + "." + SnakeCase(name);
      if (!lines_->emplace(member, line).second) {
        at_ = start;
        return Error(fmt::format("\"{}\" stands here a second time", name));
      }
      if (!Take(':')) return Error("':' is due");
      if (absl::Status value = Value(member, depth + 1); !value.ok()) return value;
    } while (Take(','));
    return Take('}') ? absl::OkStatus() : Error("',' or '}' is due");
  }

  absl::Status Array(const std::string& path, int depth) {
    Take('[');
    if (Take(']')) return absl::OkStatus();
    int index = 0;
    do {
      SkipSpace();
      const std::string element = fmt::format("{}[{}]", path, index++);
      lines_->emplace(element, Line());
      if (absl::Status value = Value(element, depth + 1); !value.ok()) return value;
    } while (Take(','));
    return Take(']') ? absl::OkStatus() : Error("',' or ']' is due");
  }

  // Escapes are kept as they stand: no field's name has any.
  absl::Status String(std::string* content) {
    const size_t start = ++at_;
    for (; at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    if (at_ >= text_.size() || text_[at_] != '"') {
      at_ = start - 1;
      return Error("a string without an end");
    }
    if (content != nullptr) *content = text_.substr(start, at_ - start);
    ++at_;
    return absl::OkStatus();
  }

  absl::Status Word() {
    const size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) ||
                                  std::string_view("+-.").find(text_[at_]) != std::string::npos)) {
      ++at_;
    }
    const std::string_view word = text_.substr(start, at_ - start);
    const bool number =
        !word.empty() && (word[0] == '-' || std::isdigit(static_cast<unsigned char>(word[0])));
    if (number || word == "true" || word == "false" || word == "null") return absl::OkStatus();
    at_ = start;
    return Error(word.empty() ? fmt::format("a value is due, not '{}'", text_[at_])
                              : fmt::format("a value is due, not {}", word));
  }

  const std::string_view text_;
  std::map<std::string, int, std::less<>>* const lines_;
  size_t at_ = 0;
  size_t counted_ = 0;
  int line_ = 1;
};

}  // namespace

absl::StatusOr<JsonIndex> JsonIndex::Parse(std::string_view text) {
  JsonIndex index;
  if (absl::Status scanned = Scanner(text, &index.lines_).Document(); !scanned.ok()) return scanned;
  return index;
}

int JsonIndex::LineOf(std::string_view path) const {
  for (std::string rest = SnakeCase(path); !rest.empty();) {
    if (auto found = lines_.find(rest); found != lines_.end()) return found->second;
    const size_t last = rest.find_last_of(".[");
    rest.resize(last == std::string::npos ? 0 : last);
  }
  return 0;
}

}  // namespace lockstep
