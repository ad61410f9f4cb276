#ifndef LOCKSTEP_CLIENT_CLI_TERMINAL_H_
#define LOCKSTEP_CLIENT_CLI_TERMINAL_H_

#include <string>

namespace lockstep {

// What a line may look like.
struct LineStyle {
  int width = 79;        // columns
  bool unicode = false;  // else ASCII
  bool color = false;
};

// A line that is drawn over and over at the bottom of standard output, below lines that stay. When
// standard output is not a terminal there is no such line. Not thread-safe.
class Terminal {
 public:
  Terminal();
  ~Terminal();

  bool interactive() const { return interactive_; }
  // Follows the window's size; three columns less, so that the ^C that terminals echo stays on the
  // live line and goes with it.
  LineStyle style() const;

  // Replaces the live line. REQUIRES: interactive().
  void Draw(const std::string& line);
  // Takes the live line away.
  void Clear();
  // Writes a line that stays, above the live one.
  void Print(const std::string& line);

 private:
  const bool interactive_;
  bool unicode_;
  bool color_;
  std::string drawn_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_TERMINAL_H_
