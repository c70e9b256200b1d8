// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/idx.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <new>
#include <string>

#include "base/text.h"
#include "data/byte_source.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using Prefix = std::array<std::uint8_t, 4>;

constexpr std::uint8_t kUnsignedByte = 0x08;

std::string hex(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (std::uint8_t byte : bytes) {
    if (!text.empty()) text += ' ';
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

// "10000 x 28 x 28"; a hostile file may declare 255 sizes, of which the first tell enough.
std::string shape_text(std::span<const std::int64_t> shape) {
  constexpr std::size_t kShown = 6;
  std::string text;
  for (std::size_t i = 0; i < std::min(shape.size(), kShown); ++i) {
    text += concat(i > 0 ? " x " : "", shape[i]);
  }
  return shape.size() > kShown ? text + " x ..." : text;
}

// What a file with the wrong first bytes probably is, and so what to do.
std::string cure_of_prefix(const Prefix& prefix) {
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()), prefix.size());
  if (GzipBytes::begins(prefix)) return "it was compressed twice: gunzip it once";
  if (text[0] == '<')
    return "it looks like a web page that came instead of the file: download again";
  if (text.starts_with("PK")) return "it looks like a zip archive: unpack it first";
  if (text.starts_with("BZh")) return "it looks like bzip2: decompress it first";
  if (text == "\xFD\x37zX") return "it looks like xz: decompress it first";
  if (text == "\x28\xB5\x2F\xFD") return "it looks like zstd: decompress it first";
  if (text == "vers")
    return "it looks like a Git LFS pointer: fetch the file itself with git lfs pull";
  return "give an IDX file such as MNIST's, plain or gzip";
}

std::string type_name(std::uint8_t code) {
  switch (code) {
    case 0x09:
      return "signed bytes";
    case 0x0B:
      return "16-bit integers";
    case 0x0C:
      return "32-bit integers";
    case 0x0D:
      return "32-bit floats";
    case 0x0E:
      return "64-bit floats";
    default:
      return "no type of the IDX format";
  }
}

/// Reads one IDX array off the front of a source, and keeps count for its errors.
class IdxParser {
 public:
  IdxParser(ByteSource& source, std::string_view name) : source_(source), name_(name) {}

  IdxArray parse_plain(std::uint64_t file_bytes);
  IdxArray parse_inflated(std::uint64_t compressed_bytes);

 private:
  std::vector<std::int64_t> read_shape();
  std::size_t read_rank();
  std::uint64_t count_values(std::span<const std::int64_t> shape) const;
  std::vector<std::uint8_t> read_values(std::span<const std::int64_t> shape, std::uint64_t count,
                                        std::uint64_t first_piece);
  std::size_t read(std::span<std::uint8_t> to);
  std::string declared(std::span<const std::int64_t> shape, std::uint64_t count) const;

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw DataError(concat("IDX file '", name_, "': ", parts...));
  }

  ByteSource& source_;
  std::string_view name_;
  std::uint64_t offset_ = 0;  // bytes read, of the inflated ones where the file is gzip
};

std::size_t IdxParser::read(std::span<std::uint8_t> to) {
  const std::size_t count = source_.read(to);
  offset_ += count;
  return count;
}

std::size_t IdxParser::read_rank() {
  Prefix prefix{};
  const std::size_t count = read(prefix);
  if (count < prefix.size()) {
    fail("it holds ", count, " bytes, expected at least the 4 with which the header begins; ",
         "download or copy it again.");
  }
  if (prefix[0] != 0 || prefix[1] != 0) {
    fail("offset 0: it begins with the bytes ", hex(prefix),
         ", expected 00 00 08 and the number of sizes; ", cure_of_prefix(prefix), ".");
  }
  if (prefix[2] != kUnsignedByte) {
    fail("offset 2: the type is 0x", hex({&prefix[2], 1}), " (", type_name(prefix[2]),
         "), expected 0x08 (unsigned bytes); convert the values to unsigned bytes.");
  }
  if (prefix[3] == 0) {
    fail("offset 3: the number of sizes is 0, expected 1 for labels or 3 for images; ",
         "write the file again.");
  }
  return prefix[3];
}

std::vector<std::int64_t> IdxParser::read_shape() {
  const std::size_t rank = read_rank();
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; i < rank; ++i) {
    std::array<std::uint8_t, 4> bytes{};
    const std::size_t count = read(bytes);
    if (count < bytes.size()) {
      fail("the header declares ", rank, " sizes and is ", 4 + 4 * rank, " bytes long, but the ",
           "data end after ", offset_, "; it was cut short: download or copy it again.");
    }
    std::int64_t size = 0;
    for (std::uint8_t byte : bytes) size = size << 8 | byte;
    if (size == 0) {
      fail("offset ", offset_ - 4, ": size ", i + 1, " of ", rank, " is 0, expected >= 1; ",
           "the file holds nothing, write it again with its data.");
    }
    shape.push_back(size);
  }
  return shape;
}

std::uint64_t IdxParser::count_values(std::span<const std::int64_t> shape) const {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t count = 1;
  for (std::int64_t size : shape) {
    if (static_cast<std::uint64_t>(size) > kMost / count) {
      fail("offset 4: the sizes ", shape_text(shape), " multiply to more than 2^63 - 1 bytes; ",
           "the header is damaged: download or copy the file again.");
    }
    count *= static_cast<std::uint64_t>(size);
  }
  return count;
}

std::string IdxParser::declared(std::span<const std::int64_t> shape, std::uint64_t count) const {
  return concat("offset 4: the header declares ", shape_text(shape), " = ", count,
                " bytes of values after its ", 4 + 4 * shape.size());
}

// Takes memory in pieces that grow with what has been read, where the data may end early.
std::vector<std::uint8_t> IdxParser::read_values(std::span<const std::int64_t> shape,
                                                 std::uint64_t count, std::uint64_t first_piece) {
  std::vector<std::uint8_t> values;
  try {
    while (values.size() < count) {
      const std::size_t old_size = values.size();
      const auto new_size = static_cast<std::size_t>(
          std::min<std::uint64_t>(count, std::max<std::uint64_t>(first_piece, 2 * old_size)));
      values.reserve(new_size);
      values.resize(new_size);
      const std::size_t got = read(std::span(values).subspan(old_size));
      if (old_size + got < new_size) {
        fail(declared(shape, count), ", but only ", old_size + got, " follow; ",
             "it was cut short: download or copy it again.");
      }
    }
  } catch (const std::bad_alloc&) {
    fail(declared(shape, count), ", more than there is memory for; read it on a larger machine.");
  }
  return values;
}

IdxArray IdxParser::parse_plain(std::uint64_t file_bytes) {
  IdxArray array;
  array.shape = read_shape();
  const std::uint64_t count = count_values(array.shape);
  const std::uint64_t present = file_bytes - std::min(file_bytes, offset_);
  if (present < count) {
    fail(declared(array.shape, count), ", but only ", present, " follow; ",
         "it was cut short: download or copy it again.");
  }
  if (present > count) {
    fail(declared(array.shape, count), ", but ", present - count, " more follow; ",
         "the header is damaged or another file was joined: download or copy it again.");
  }
  array.values = read_values(array.shape, count, count);
  return array;
}

IdxArray IdxParser::parse_inflated(std::uint64_t compressed_bytes) {
  constexpr std::uint64_t kFirstPiece = 65'536;
  IdxArray array;
  array.shape = read_shape();
  const std::uint64_t count = count_values(array.shape);
  if (count / GzipBytes::kMaxExpansion > compressed_bytes) {
    fail(declared(array.shape, count), ", but ", compressed_bytes, " compressed bytes expand to ",
         compressed_bytes * GzipBytes::kMaxExpansion, " at most; ",
         "the header is damaged: download or copy the file again.");
  }
  array.values = read_values(array.shape, count, kFirstPiece);
  std::array<std::uint8_t, 1> beyond{};
  if (read(beyond) > 0) {  // at the end this also checks gzip's own checksum
    fail(declared(array.shape, count), ", but more follow; ",
         "the header is damaged or another file was joined: download or copy it again.");
  }
  return array;
}

IdxArray parse(StoredBytes& stored, std::string_view name) {
  std::array<std::uint8_t, 2> first{};
  const bool is_gzip = stored.read(first) == first.size() && GzipBytes::begins(first);
  stored.rewind();
  if (!is_gzip) return IdxParser(stored, name).parse_plain(stored.length());
  GzipBytes inflated(stored, name);
  return IdxParser(inflated, name).parse_inflated(stored.length());
}

void require_rank(const IdxArray& array, const std::filesystem::path& path, std::size_t rank,
                  std::string_view expected) {
  if (array.shape.size() == rank) return;
  throw DataError(concat("IDX file '", path.string(), "': it holds ", array.shape.size(),
                         " sizes (", shape_text(array.shape), "), expected ", expected,
                         "; check that images and labels are not swapped."));
}

}  // namespace

IdxArray read_idx(const std::filesystem::path& path) {
  FileBytes file(path);
  return parse(file, path.string());
}

IdxArray parse_idx(std::span<const std::uint8_t> bytes, std::string_view name) {
  MemoryBytes memory(bytes);
  return parse(memory, name);
}

LabeledImages read_labeled_images(const std::filesystem::path& images,
                                  const std::filesystem::path& labels, std::int64_t num_classes) {
  if (num_classes < 1 || num_classes > 256) {
    throw ArgumentError(concat("read_labeled_images: num_classes must be in [1, 256], got ",
                               num_classes, "; labels are unsigned bytes."));
  }
  LabeledImages pair{read_idx(images), read_idx(labels)};
  require_rank(pair.images, images, 3, "3 (images, rows, columns)");
  require_rank(pair.labels, labels, 1, "1 (labels)");
  if (pair.images.shape[0] != pair.labels.shape[0]) {
    throw DataError(concat("IDX file '", images.string(), "' holds ", pair.images.shape[0],
                           " images, but '", labels.string(), "' holds ", pair.labels.shape[0],
                           " labels, expected as many; give two files of one set."));
  }
  const auto wrong = std::find_if(pair.labels.values.begin(), pair.labels.values.end(),
                                  [&](std::uint8_t label) { return label >= num_classes; });
  if (wrong != pair.labels.values.end()) {
    throw DataError(concat("IDX file '", labels.string(), "': label ",
                           wrong - pair.labels.values.begin(), " is ", int{*wrong},
                           ", expected 0 to ", num_classes - 1,
                           "; raise num_classes or correct the file."));
  }
  return pair;
}

}  // namespace torch_accelerated
