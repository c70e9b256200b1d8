// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace torch_accelerated {

/// A text file that grows by whole lines: a reader never sees half of one that `append` wrote, and
/// a process that ends in between leaves the lines that were there.
///
/// All functions throw a FileError that names the file and what the system said.
class LineFile {
 public:
  /// @param owner  starts the messages.
  LineFile(std::string owner, std::filesystem::path path);

  const std::filesystem::path& path() const noexcept { return path_; }

  /// Makes sure that it can be written to, and creates it where it isn't there.
  void open() const;

  std::string read() const;

  /// Cuts off what stands after the last line break of `content`, which is the file's: half a line
  /// that a broken process or a full disk has left. Where `lines` are given, all behind them too.
  /// @return how many lines there are then.
  std::int64_t cut_to_lines(const std::string& content, std::optional<std::int64_t> lines) const;

  /// Adds `lines`, each with its line break, in one write.
  void append(std::string_view lines) const;

  /// Puts `content` in the place of all that there is: in a file beside it, which is renamed.
  void replace(std::string_view content) const;

 private:
  [[noreturn]] void fail(const std::filesystem::path& path, const char* what, int error) const;
  int open_to_write(const std::filesystem::path& path, int flags) const;
  void write_and_close(const std::filesystem::path& path, int file, std::string_view text,
                       bool to_disk) const;

  std::string owner_;
  std::filesystem::path path_;
};

}  // namespace torch_accelerated
