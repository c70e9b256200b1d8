// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <zlib.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

namespace torch_accelerated {

/// Bytes that are read from the first to the last.
class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;

  /// Fills `to` and returns how many bytes were written; fewer than asked for at the end only.
  virtual std::size_t read(std::span<std::uint8_t> to) = 0;
};

/// Bytes of which the number is known, and which can be read once more from the first.
class StoredBytes : public ByteSource {
 public:
  virtual std::uint64_t length() const = 0;
  virtual void rewind() = 0;
};

/// Bytes in the caller's memory.
class MemoryBytes final : public StoredBytes {
 public:
  explicit MemoryBytes(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  std::size_t read(std::span<std::uint8_t> to) override;
  std::uint64_t length() const override { return bytes_.size(); }
  void rewind() override { position_ = 0; }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t position_ = 0;
};

/// The bytes of a regular file.
class FileBytes final : public StoredBytes {
 public:
  /// @throws DataError  there is no such file, it is not a regular file or can't be opened.
  explicit FileBytes(const std::filesystem::path& path);

  std::size_t read(std::span<std::uint8_t> to) override;
  std::uint64_t length() const override { return length_; }
  void rewind() override;

 private:
  std::ifstream file_;
  std::uint64_t length_ = 0;
};

/// The bytes that a gzip file, of one member or several, was made of.
class GzipBytes final : public ByteSource {
 public:
  /// Deflate makes at most this many bytes of one.
  static constexpr std::uint64_t kMaxExpansion = 1032;

  /// Whether a file of these first bytes is gzip.
  static bool begins(std::span<const std::uint8_t> bytes);

  /// @param compressed  read from where it stands; outlives this object.
  /// @param name        what errors call the file.
  GzipBytes(ByteSource& compressed, std::string_view name);
  ~GzipBytes() override;

  /// @throws DataError  the compressed bytes are damaged, cut short or followed by others.
  std::size_t read(std::span<std::uint8_t> to) override;

 private:
  bool refill();
  void inflate_some();
  void begin_next_member();
  [[noreturn]] void fail(std::string_view problem, std::string_view cure) const;

  ByteSource& compressed_;
  std::string name_;
  std::array<std::uint8_t, 16384> buffer_{};
  z_stream stream_{};
  std::uint64_t consumed_ = 0;  // compressed bytes taken out of full buffers
  bool ended_ = false;
};

}  // namespace torch_accelerated
