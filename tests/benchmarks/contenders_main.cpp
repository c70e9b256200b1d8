// SPDX-License-Identifier: Apache-2.0
// One process of compare.py's, which tells it what to run and when:
//   benchmark_contenders MODEL DEVICE REPLIES
// Each line on stdin, "CONTENDER premade|dataset WARM_UP UPDATES", runs one contender; "versions"
// tells what it was built with. Either writes one line of JSON to the file descriptor REPLIES. What
// training prints goes to stdout and stderr as ever.
#include <torch/torch.h>
#include <torch_accelerated/base/version.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <numeric>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "workload.h"

namespace {

using benchmarks::DataPath;
using benchmarks::Work;

// The most memory that this process has had resident.
std::int64_t peak_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib;
  }
  throw std::runtime_error("/proc/self/status has no VmHWM");
}

std::pair<double, double> mean_and_median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {sum / static_cast<double>(values.size()), *middle};
}

std::string versions() {
  std::ostringstream json;
  json << R"({"torch-accelerated": ")" << TORCH_ACCELERATED_VERSION_MAJOR << '.'
       << TORCH_ACCELERATED_VERSION_MINOR << '.' << TORCH_ACCELERATED_VERSION_PATCH
       << R"(", "LibTorch": ")" << TORCH_VERSION << R"(", "compiler": ")"
#ifdef __clang__
       << "clang " << __clang_major__ << '.' << __clang_minor__
#else
       << "g++ " << __GNUC__ << '.' << __GNUC_MINOR__
#endif
       << R"(", "threads": )" << at::get_num_threads() << '}';
  return json.str();
}

class Process {
 public:
  Process(benchmarks::Model model, c10::Device device) : model_(model), device_(device) {}

  std::string answer(const std::string& line) {
    if (line == "versions") return versions();
    std::istringstream words(line);
    std::string contender;
    std::string data_path;
    std::int64_t warm_up = 0;
    std::int64_t updates = 0;
    if (!(words >> contender >> data_path >> warm_up >> updates)) {
      throw std::invalid_argument("not a command: " + line);
    }
    auto& work = work_for(warm_up, updates);
    work.data_path = data_path == "dataset" ? DataPath::kDataset : DataPath::kPremade;
    const auto outcome = benchmarks::run_contender(contender, work);
    std::ostringstream json;
    json.precision(17);
    const auto [mean, median] = mean_and_median(outcome.clock.updates());
    json << R"({"mean_ns": )" << mean << R"(, "median_ns": )" << median << R"(, "loss": )"
         << outcome.loss << R"(, "first_update_ns": )" << outcome.clock.first_update_ended().count()
         << R"(, "peak_kib": )" << peak_kib() << '}';
    return json.str();
  }

 private:
  Work& work_for(std::int64_t warm_up, std::int64_t updates) {
    if (!work_ || work_->warm_up != warm_up || work_->updates != updates) {
      work_ = benchmarks::make_work(model_, warm_up, updates, device_);
    }
    return *work_;
  }

  benchmarks::Model model_;
  c10::Device device_;
  std::optional<Work> work_;
};

int serve(const std::vector<std::string>& arguments) {
  std::FILE* replies = arguments.size() == 3 ? ::fdopen(std::stoi(arguments[2]), "w") : nullptr;
  if (replies == nullptr) throw std::invalid_argument("tests/benchmarks/run starts this program");
  const c10::Device device(arguments[1]);
  if (device.is_cuda() && !torch::cuda::is_available()) {
    throw std::invalid_argument("there is no GPU here that LibTorch can use; take --device cpu");
  }
  Process process(benchmarks::model_named(arguments[0]), device);
  for (std::string line; std::getline(std::cin, line);) {
    std::fprintf(replies, "%s\n", process.answer(line).c_str());
    std::fflush(replies);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return serve({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
