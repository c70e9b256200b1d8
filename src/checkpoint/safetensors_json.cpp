// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_json.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "checkpoint/safetensors_text.h"
#include "checkpoint/safetensors_tokens.h"

namespace torch_accelerated {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLengthBytes = 8;  // stand before the JSON

/// Takes the header as it is read, so that nothing is built of what the format doesn't have.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(std::string_view file_name) : file_name_(file_name) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override {  // it has a minus
    unexpected(value == 0 ? "-0" : std::to_string(value));
  }
  bool number_float(number_float_t, const string_t& text) override { unexpected(shown(text)); }
  bool binary(binary_t&) override { unexpected("bytes"); }
  bool number_unsigned(number_unsigned_t value) override;
  bool string(string_t& value) override;
  bool key(string_t& name) override;
  bool start_object(std::size_t) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override;

 private:
  enum class Place { kOutside, kHeader, kMetadata, kTensor, kShape, kOffsets };
  enum class Field { kNone, kDtype, kShape, kOffsets };

  void begin_tensor_or_metadata(string_t& name);
  void begin_field(std::string_view name);
  void read_dtype(std::string_view name);

  SafetensorsEntry& tensor() { return header_.tensors.back(); }
  std::string subject() const;
  std::string_view expected() const;

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    refuse_safetensors(file_name_, subject(), parts...);
  }

  [[noreturn]] void unexpected(std::string_view what) const {
    fail("it has ", what, ", expected ", expected(), "; write the file again.");
  }

  std::string_view file_name_;
  SafetensorsHeader header_;
  Place place_ = Place::kOutside;
  Field field_ = Field::kNone;
  bool has_metadata_ = false;      // "__metadata__" was read
  bool is_metadata_next_ = false;  // its value comes now
  bool has_dtype_ = false;         // of the tensor being read, as the two below
  bool has_shape_ = false;
  bool has_offsets_ = false;
  std::size_t num_offsets_ = 0;
};

std::string HeaderReader::subject() const {
  if (is_metadata_next_) return "__metadata__: ";  // also while it is read
  if (place_ == Place::kOutside || header_.tensors.empty()) return "the header: ";
  return concat("tensor '", shown(header_.tensors.back().name), "': ");
}

std::string_view HeaderReader::expected() const {
  switch (place_) {
    case Place::kOutside:
      return "one object";
    case Place::kHeader:
      return is_metadata_next_ ? "an object of texts" : "an object with dtype, shape, data_offsets";
    case Place::kMetadata:
      return "texts alone";
    case Place::kShape:
      return "a shape of whole numbers from 0 to 2^53";
    case Place::kOffsets:
      return "data_offsets of two whole numbers from 0 to 2^53";
    case Place::kTensor:
      break;
  }
  if (field_ == Field::kDtype) return "a text for dtype";
  return field_ == Field::kShape ? "an array for shape" : "an array for data_offsets";
}

bool HeaderReader::number_unsigned(number_unsigned_t value) {
  if (place_ != Place::kShape && place_ != Place::kOffsets) unexpected(std::to_string(value));
  if (value > SafetensorsLimits::kNumber) unexpected(std::to_string(value));
  if (place_ == Place::kShape) {
    if (tensor().shape.size() == SafetensorsLimits::kRank) {
      fail("its shape has more sizes than ", SafetensorsLimits::kRank,
           ", expected at most that many; give it fewer dimensions.");
    }
    tensor().shape.push_back(static_cast<std::int64_t>(value));
    return true;
  }
  if (num_offsets_ == 2) unexpected("a third number");
  (num_offsets_ == 0 ? tensor().begin : tensor().end) = value;
  ++num_offsets_;
  return true;
}

bool HeaderReader::string(string_t& value) {
  if (place_ == Place::kMetadata) {
    header_.metadata.back().second = std::move(value);
  } else if (place_ == Place::kTensor && field_ == Field::kDtype) {
    read_dtype(value);
  } else {
    unexpected("a text");
  }
  return true;
}

void HeaderReader::read_dtype(std::string_view name) {
  const std::optional<SafetensorsDtype> dtype = safetensors_dtype(name);
  if (!dtype) {
    fail("its dtype is '", shown(name),
         "', expected one of the format's such as F32, BF16 or I64; ",
         "convert it with Python's safetensors.");
  }
  tensor().dtype = *dtype;
}

bool HeaderReader::key(string_t& name) {
  if (place_ == Place::kTensor) {
    begin_field(name);
  } else if (place_ == Place::kMetadata) {
    if (header_.metadata.size() == SafetensorsLimits::kMetadata) {
      fail("it has more texts than ", SafetensorsLimits::kMetadata,
           ", expected at most that many; write the file again with fewer.");
    }
    header_.metadata.emplace_back(std::move(name), std::string());
  } else {
    begin_tensor_or_metadata(name);
  }
  return true;
}

void HeaderReader::begin_tensor_or_metadata(string_t& name) {
  is_metadata_next_ = name == "__metadata__";
  if (is_metadata_next_) {
    if (has_metadata_) fail("it is there a second time, expected once; write the file again.");
    has_metadata_ = true;
    return;
  }
  if (name.size() > SafetensorsLimits::kNameBytes) {
    fail("a name follows it of ", name.size(), " bytes ('", shown(name), "'), expected at most ",
         SafetensorsLimits::kNameBytes, "; give that tensor a shorter name.");
  }
  if (header_.tensors.size() == SafetensorsLimits::kTensors) {
    fail("another tensor follows the first ", SafetensorsLimits::kTensors,
         ", expected at most that many; split the file.");
  }
  header_.tensors.emplace_back().name = std::move(name);
}

void HeaderReader::begin_field(std::string_view name) {
  bool* seen = nullptr;
  if (name == "dtype") {
    field_ = Field::kDtype;
    seen = &has_dtype_;
  } else if (name == "shape") {
    field_ = Field::kShape;
    seen = &has_shape_;
  } else if (name == "data_offsets") {
    field_ = Field::kOffsets;
    seen = &has_offsets_;
  } else {
    fail("it has a field '", shown(name), "', expected dtype, shape and data_offsets alone; ",
         "write the file again.");
  }
  if (*seen) fail("its ", name, " is there twice, expected once; write the file again.");
  *seen = true;
}

bool HeaderReader::start_object(std::size_t) {
  if (place_ == Place::kOutside) {
    place_ = Place::kHeader;
  } else if (place_ == Place::kHeader) {
    place_ = is_metadata_next_ ? Place::kMetadata : Place::kTensor;
    field_ = Field::kNone;
    has_dtype_ = has_shape_ = has_offsets_ = false;
  } else {
    unexpected("an object");
  }
  return true;
}

bool HeaderReader::end_object() {
  if (place_ == Place::kTensor && !(has_dtype_ && has_shape_ && has_offsets_)) {
    fail("it has no ", !has_dtype_ ? "dtype" : (!has_shape_ ? "shape" : "data_offsets"),
         ", expected dtype, shape and data_offsets; write the file again.");
  }
  place_ = place_ == Place::kHeader ? Place::kOutside : Place::kHeader;
  is_metadata_next_ = false;
  return true;
}

bool HeaderReader::start_array(std::size_t) {
  if (place_ != Place::kTensor || field_ == Field::kDtype) unexpected("an array");
  place_ = field_ == Field::kShape ? Place::kShape : Place::kOffsets;
  num_offsets_ = 0;
  return true;
}

bool HeaderReader::end_array() {
  if (place_ == Place::kOffsets && num_offsets_ != 2) {
    unexpected(num_offsets_ == 0 ? "none" : "a single one");
  }
  place_ = Place::kTensor;
  return true;
}

bool HeaderReader::parse_error(std::size_t position, const std::string&,
                               const nlohmann::detail::exception& error) {
  std::string_view reason = error.what();
  const std::size_t found = reason.find("syntax error");
  if (found != std::string_view::npos) reason.remove_prefix(found);
  refuse_safetensors(file_name_, "offset ", kLengthBytes + position - (position > 0 ? 1 : 0),
                     ": the header is not JSON (", shown(reason),
                     "), expected an object of tensors; download or copy the file again.");
}

}  // namespace

SafetensorsHeader read_safetensors_json(std::string_view json, std::string_view file_name) {
  json = json.substr(0, json.find_last_not_of(" \t\r\n") + 1);
  if (json.empty() || json.front() != '{') {  // the JSON reader would skip a byte order mark
    refuse_safetensors(file_name, "offset ", kLengthBytes, ": the header begins with '",
                       shown(json.substr(0, 1)),
                       "', expected '{'; give a file in the safetensors format.");
  }
  check_safetensors_tokens(json, file_name);
  HeaderReader reader(file_name);
  Json::sax_parse(json.begin(), json.end(), &reader);
  return reader.take();
}

}  // namespace torch_accelerated
