// SPDX-License-Identifier: Apache-2.0
#include "distributed/launcher.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

namespace tests::launcher_test {
namespace {

using torch_accelerated::detail::find_launch;
using torch_accelerated::detail::launched_rank;

/// The environment of a launcher, without what launched the tests themselves.
class Launcher : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : kNames) {
      if (const char* value = std::getenv(name)) saved_[name] = value;
      unsetenv(name);
    }
  }
  void TearDown() override {
    for (const char* name : kNames) unsetenv(name);
    for (const auto& [name, value] : saved_) setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  static constexpr const char* kNames[] = {
      "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS", "PMIX_RANK",
      "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"};
  std::map<std::string, std::string> saved_;
};

TEST_F(Launcher, IsNotThereWithoutItsVariables) { EXPECT_FALSE(find_launch().has_value()); }

TEST_F(Launcher, IsFoundByItsVariable) {
  for (const char* name :
       {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS"}) {
    setenv(name, "12", 1);
    const auto launch = find_launch();
    ASSERT_TRUE(launch.has_value()) << name;
    EXPECT_EQ(launch->variable, name);
    EXPECT_EQ(launch->ranks, 12);
    unsetenv(name);
  }
}

TEST_F(Launcher, NearestToTheProgramCounts) {
  setenv("SLURM_STEP_NUM_TASKS", "2", 1);
  setenv("OMPI_COMM_WORLD_SIZE", "8", 1);
  EXPECT_EQ(find_launch()->ranks, 8);
}

TEST_F(Launcher, OfUnknownSizeIsAskedOfMpi) {
  setenv("PMIX_RANK", "0", 1);
  ASSERT_TRUE(find_launch().has_value());
  EXPECT_EQ(find_launch()->ranks, 0);
}

TEST_F(Launcher, SaysWhichRankThisIs) {
  EXPECT_EQ(launched_rank(), 0);
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"}) {
    setenv(name, "3", 1);
    EXPECT_EQ(launched_rank(), 3) << name;
    setenv(name, "x", 1);
    EXPECT_EQ(launched_rank(), 0) << name;
    unsetenv(name);
  }
}

TEST_F(Launcher, MalformedNumbersAnnounceNothing) {
  for (const char* text : {"", " 4", "4 ", "4x", "-4", "0", "1e3", "99999999999999999999", "+4"}) {
    setenv("PMI_SIZE", text, 1);
    EXPECT_FALSE(find_launch().has_value()) << text;
  }
}

}  // namespace
}  // namespace tests::launcher_test
